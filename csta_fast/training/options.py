"""What a training is made of: the options of the command line and of configuration files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

from csta_fast.data.clips import ClipOptions
from csta_fast.models.csta_cnn import Axes, Place, Streams
from csta_fast.structures import Gate

Validation = Literal["subjects", "test", "none"]
Schedule = Literal["cosine", "exponential", "constant"]
Precision = Literal["32-true", "bf16-mixed", "16-mixed"]
Log = Literal["csv", "tensorboard"]

FOLDS = 5


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
        _one_of("validation", self.validation, get_args(Validation))
        if not 0 <= self.fold < FOLDS:
            raise ValueError(f"fold: wanted 0 to {FOLDS - 1}, got {self.fold}")
        _at_least(1, self, "persons")
        _at_least(0, self, "workers")


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
        dropout: probability.
        backend: of the attention layer; the fastest that serves unless given.
    """

    axes: Axes = "both"
    place: Place = "conv1"
    streams: Streams = "both"
    groups: int = 1
    hidden: int | None = None
    gate: Gate = "softmax"
    residual: bool = False
    dropout: float = 0.5
    backend: str | None = None

    def __post_init__(self) -> None:
        _share(self, "dropout")


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
        log: "csv" or "tensorboard".
        progress: show a bar, or a line for every epoch where no terminal shows it.
    """

    epochs: int = 60
    batch: int = 16
    learning_rate: float = 1e-3
    attention_rate: float = 10.0
    weight_decay: float = 1e-4
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
        _at_least(1, self, "epochs", "batch", "nodes", "threads")
        _at_least(0, self, "learning_rate", "attention_rate", "weight_decay", "gradient_norm")
        _share(self, "smoothing")
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"seed: wanted 0 to {2**32 - 1}, got {self.seed}")
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
    def from_dict(plain: Mapping[str, Mapping[str, Any]]) -> Options:
        """The options of a checkpoint or a configuration file."""
        clips = dict(plain["clips"])
        clips["crop"] = tuple(clips["crop"])
        return Options(
            DataOptions(**plain["data"]),
            ClipOptions(**clips),
            ModelOptions(**plain["model"]),
            TrainingOptions(**plain["training"]),
        )


def _at_least(least: int, options: object, *names: str) -> None:
    for name in names:
        value = getattr(options, name)
        if value is not None and value < least:
            raise ValueError(f"{name}: wanted at least {least}, got {value}")


def _share(options: object, name: str) -> None:
    value = getattr(options, name)
    if not 0 <= value <= 1:
        raise ValueError(f"{name}: wanted 0 to 1, got {value}")


def _one_of(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ValueError(f"{name}: wanted one of {', '.join(known)}, got {value!r}")
