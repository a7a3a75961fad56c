"""What a training is made of: the options of the command line and of configuration files."""

from __future__ import annotations

import math
import types
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from reprlib import repr as short
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from csta_fast.backends import BACKENDS
from csta_fast.data.clips import ClipOptions
from csta_fast.models.csta_cnn import Axes, Place, Streams
from csta_fast.types import Gate

Validation = Literal["subjects", "test", "none"]
Schedule = Literal["cosine", "exponential", "constant"]
Precision = Literal["32-true", "bf16-mixed", "16-mixed"]
Log = Literal["csv", "tensorboard"]

FOLDS = 5
MOST_PERSONS = 64  # in a clip: its memory grows with them


@dataclass(frozen=True)
class DataOptions:
    """Which recordings.

    Attributes:
        source: a folder or file with recordings, or "synthetic" for generated ones.
        kind: of data set; guessed from what the source holds unless given.
        protocol: which recordings train and which test; the data set's first one unless given.
        validation: what the best epoch is chosen on: "subjects" holds a fifth of the subjects that
            train back, "test" looks at the test recordings as much of the field does, and "none"
            takes the last epoch.
        fold: which fifth of the subjects is held back, 0 to 4.
        persons: most people in a clip; as many as the data set has unless given.
        workers: processes that make clips, beside the one that trains.
    """

    source: str = "synthetic"
    kind: str | None = None
    protocol: str | None = None
    validation: Validation = "subjects"
    fold: int = 0
    persons: int | None = None
    workers: int = 0

    def __post_init__(self) -> None:
        if not self.source:
            raise ValueError(f"source: wanted a folder, a file or 'synthetic', got {self.source!r}")
        _one_of("validation", self.validation, get_args(Validation))
        if not 0 <= self.fold < FOLDS:
            raise ValueError(f"fold: wanted 0 to {FOLDS - 1}, got {self.fold}")
        _between(1, MOST_PERSONS, self, "persons")
        _between(0, 1024, self, "workers")


@dataclass(frozen=True)
class ModelOptions:
    """Which network.

    Attributes:
        axes: what has attention weights: "both" (CSTA), "joints", "frames", or "none" (HCN).
        place: whose features are reweighted: "input", or those after "conv1" or "conv2".
        streams: in which stream of HCN: "both", "position" or "motion".
        groups: attention maps, each for a part of the channels.
        hidden: width of the subnetworks that score; max(16, channels // 4) unless given.
        gate: "softmax" or "sigmoid".
        residual: add the features to the reweighted ones.
        dropout: probability; HCN was published with 0.5, for tens of thousands of recordings.
        backend: of the attention layer; the fastest that serves unless given.
    """

    axes: Axes = "both"
    place: Place = "conv1"
    streams: Streams = "both"
    groups: int = 1
    hidden: int | None = None
    gate: Gate = "softmax"
    residual: bool = False
    dropout: float = 0.1
    backend: str | None = None

    def __post_init__(self) -> None:
        _share(self, "dropout")
        if self.backend is not None:
            _one_of("backend", self.backend, tuple(BACKENDS))


@dataclass(frozen=True)
class TrainingOptions:
    """How it is trained.

    Attributes:
        epochs: passes over the recordings that train.
        batch: clips a step, over all processes together.
        learning_rate: of Adam, at the start.
        attention_rate: the attention's subnetworks learn so many times faster. They start at zero,
            and at the rate of the others stay near uniform attention for hundreds of steps.
        weight_decay: of Adam; not of the attention's subnetworks, whose gradients it outweighs.
        schedule: "cosine" down to 0, "exponential" by 1 % an epoch, or "constant".
        gradient_norm: gradients longer than this are shortened to it; 0 leaves them.
        smoothing: of the labels in the loss.
        seed: of weights, order, crops and dropout.
        deterministic: refuse operations of PyTorch that are not. The layer itself always is.
        channels_last: keep the channels of a position side by side in memory, which makes the
            convolutions of a CPU faster.
        precision: "32-true", "bf16-mixed" or "16-mixed".
        accelerator: "auto", "cpu" or "gpu".
        devices: processes on this machine, each with a device; "auto" takes all GPUs, or one CPU.
        nodes: machines, each started by torchrun or a scheduler.
        threads: of PyTorch in every process; PyTorch's own choice unless given.
        log: "csv", or "tensorboard" for its files as well.
        progress: show a bar, or a line for every epoch where no terminal shows it.
    """

    epochs: int = 18
    batch: int = 8
    learning_rate: float = 1e-3
    attention_rate: float = 10.0
    weight_decay: float = 0.0
    schedule: Schedule = "cosine"
    gradient_norm: float = 0.0
    smoothing: float = 0.0
    seed: int = 0
    deterministic: bool = False
    channels_last: bool = False
    precision: Precision = "32-true"
    accelerator: str = "auto"
    devices: int | str = "auto"
    nodes: int = 1
    threads: int | None = None
    log: Log = "csv"
    progress: bool = True

    def __post_init__(self) -> None:
        _between(1, 2**31 - 1, self, "epochs", "batch", "nodes")
        _between(1, 4096, self, "threads")
        # A product of two rates is a number of 32 bits still.
        _between(0, 1e19, self, "learning_rate", "attention_rate", "weight_decay", "gradient_norm")
        _share(self, "smoothing")
        _between(0, 2**32 - 1, self, "seed")
        if isinstance(self.devices, int):
            _between(-1, 1024, self, "devices")  # -1 is all that there are
        _one_of("schedule", self.schedule, get_args(Schedule))
        _one_of("precision", self.precision, get_args(Precision))
        _one_of("log", self.log, get_args(Log))


@dataclass(frozen=True)
class Options:
    """All of them."""

    data: DataOptions = field(default_factory=DataOptions)
    clips: ClipOptions = field(default_factory=ClipOptions)
    model: ModelOptions = field(default_factory=ModelOptions)
    training: TrainingOptions = field(default_factory=TrainingOptions)

    def as_dict(self) -> dict[str, Any]:
        """Plain values only, as checkpoints and configuration files hold them."""
        plain = asdict(self)
        plain["clips"]["crop"] = list(self.clips.crop)
        return plain

    @staticmethod
    def from_dict(plain: Any) -> Options:
        """The options of a checkpoint or a configuration file.

        Raises:
            ValueError: one is missing, unknown, of another type or out of range.
        """
        if not isinstance(plain, Mapping):
            raise ValueError(f"options: wanted data, clips, model and training, got {short(plain)}")
        sections = {each.name: plain.get(each.name) for each in fields(Options)}
        return Options(
            _section(DataOptions, "data", sections),
            _section(ClipOptions, "clips", sections),
            _section(ModelOptions, "model", sections),
            _section(TrainingOptions, "training", sections),
        )


_Section = TypeVar("_Section", DataOptions, ClipOptions, ModelOptions, TrainingOptions)


def _section(kind: type[_Section], name: str, sections: Mapping[str, Any]) -> _Section:
    """One part of the options, of values that may be anything."""
    plain: Any = sections[name]
    hints: dict[str, Any] = get_type_hints(kind)
    if not isinstance(plain, Mapping):
        raise ValueError(f"{name}: wanted options, got {short(plain)}")
    for option in [*hints, *plain]:
        if option not in plain or option not in hints:
            lack = "none" if option in hints else f"an unknown option, {short(option)}"
            wanted = option if option in hints else "known options"
            raise ValueError(f"{name}: wanted {wanted}, got {lack}")
    values: dict[str, Any] = {}
    for option, hint in hints.items():
        value = plain[option]
        if isinstance(value, list) and len(value) < 10:
            value = tuple(value)
        if not _fits(value, hint):
            wanted = getattr(hint, "__name__", None) or str(hint).replace("typing.", "")
            raise ValueError(f"{name}.{option}: wanted {wanted}, got {short(plain[option])}")
        values[option] = value
    try:
        return kind(**values)
    except ValueError as error:
        raise ValueError(f"{name}.{error}") from error


def _fits(value: object, hint: Any) -> bool:
    """Whether a value is of a type that a field of the options may have."""
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        return any(_fits(value, each) for each in get_args(hint))
    if origin is Literal:
        return isinstance(value, str) and value in get_args(hint)
    if origin is tuple:
        parts = get_args(hint)
        return (
            isinstance(value, tuple) and len(value) == len(parts) and all(map(_fits, value, parts))
        )
    if hint is float:
        return type(value) in (int, float) and abs(value) < math.inf  # type: ignore[arg-type]
    return type(value) is (types.NoneType if hint is None else hint)


def _between(least: float, most: float, options: object, *names: str) -> None:
    for name in names:
        value = getattr(options, name)
        if value is not None and not (least <= value <= most and value < math.inf):
            wanted = f"at least {least}" if most == math.inf else f"{least} to {most}"
            raise ValueError(f"{name}: wanted {wanted}, got {value}")


def _share(options: object, name: str) -> None:
    value = getattr(options, name)
    if not 0 <= value <= 1:
        raise ValueError(f"{name}: wanted 0 to 1, got {value}")


def _one_of(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ValueError(f"{name}: wanted one of {', '.join(known)}, got {value!r}")
