"""A trained network, and the file it is kept in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from reprlib import repr as short
from typing import Any

import torch
from torch import Tensor

from csta_fast.data.layouts import LAYOUTS, Layout
from csta_fast.data.limits import Limits
from csta_fast.data.recordings import Collection
from csta_fast.models import CSTACNN
from csta_fast.training.options import MOST_PERSONS, Options
from csta_fast.training.reading import read_checkpoint, structure_bytes

_PREFIX = "network."
_PARAMETER_BYTES = 12  # of a weight and its two moments in a checkpoint


@dataclass(frozen=True)
class Facts:
    """What a network must know of the data it is made for.

    Attributes:
        layout: name of the recordings' layout.
        classes: a name for every label.
        coordinates: of a position.
        persons: most people in a clip.

    Raises:
        ValueError: no network can be made for such data.
    """

    layout: str
    classes: tuple[str, ...]
    coordinates: int
    persons: int

    def __post_init__(self) -> None:
        if not isinstance(self.layout, str) or self.layout not in LAYOUTS:
            wanted = f"one of {', '.join(LAYOUTS)}"
            raise ValueError(f"layout: wanted {wanted}, got {short(self.layout)}")
        limits = Limits.from_environment()
        if not isinstance(self.classes, tuple) or not self.classes:
            raise ValueError(f"classes: wanted at least one name, got {short(self.classes)}")
        if len(self.classes) > limits.classes:
            wanted, got = f"up to {limits.classes} names", f"{len(self.classes)}"
            raise ValueError(f"classes: {limits.refuse('classes', wanted, got)}")
        for name in self.classes:
            if not isinstance(name, str):
                raise ValueError(f"classes: wanted names, got {short(name)}")
        for what, value, most in (
            ("coordinates", self.coordinates, 3),
            ("persons", self.persons, MOST_PERSONS),
        ):
            if type(value) is not int or not 1 <= value <= most:
                raise ValueError(f"{what}: wanted 1 to {most}, got {short(value)}")

    @staticmethod
    def of(collection: Collection, persons: int | None) -> Facts:
        """The facts of a collection; with its largest number of persons unless given.

        Raises:
            ValueError: its layout is not one of ``csta_fast.data.LAYOUTS``, which is all that a
                checkpoint can name, or it has no recordings, or too many classes.
        """
        known = LAYOUTS.get(collection.layout.name)
        if known != collection.layout:
            raise ValueError(
                f"layout: wanted one of {', '.join(LAYOUTS)}, got one of your own, "
                f"{collection.layout.name!r}; add it to csta_fast.data.LAYOUTS under its name"
            )
        shapes = [recording.positions.shape for recording in collection.recordings]
        if not shapes:
            raise ValueError(f"recordings: wanted at least one, {collection.name} holds none")
        if persons is None:
            persons = max(shape[0] for shape in shapes)
        return Facts(collection.layout.name, tuple(collection.classes), shapes[0][3], persons)

    @staticmethod
    def from_dict(plain: Any) -> Facts:
        """The facts in a checkpoint.

        Raises:
            ValueError: they are none.
        """
        names = [each.name for each in fields(Facts)]
        if not isinstance(plain, Mapping) or set(plain) != set(names):
            raise ValueError(f"facts: wanted {', '.join(names)}, got {short(plain)}")
        classes = plain["classes"]
        return Facts(**{**plain, "classes": tuple(classes) if type(classes) is list else classes})

    @property
    def joints(self) -> Layout:
        """The layout itself."""
        return LAYOUTS[self.layout]


@dataclass(frozen=True)
class Trained:
    """A network with all that is needed to use it again."""

    network: CSTACNN
    options: Options
    facts: Facts


def build(options: Options, facts: Facts) -> CSTACNN:
    """A fresh network as the options want it, for data of which these facts hold.

    On the CPU and in float32, as clips are, whatever PyTorch's defaults.

    Raises:
        ValueError: there is no such network, or its checkpoint would be over the limit.
    """
    outline(options, facts)
    return _made(options, facts, "cpu")


def outline(options: Options, facts: Facts) -> CSTACNN:
    """The same network without its numbers: no memory is taken."""
    try:
        network = _made(options, facts, "meta")
        size = sum(parameter.numel() for parameter in network.state_dict().values())
    except (RuntimeError, OverflowError, TypeError) as error:  # sizes that overflow
        raise ValueError(
            "model: wanted a network that fits into memory, got sizes beyond"
        ) from error
    limits = Limits.from_environment()
    most = (limits.checkpoint_bytes - structure_bytes(limits)) // _PARAMETER_BYTES
    if size > most:
        wanted = f"up to {most} parameters"
        raise ValueError(f"model: {limits.refuse('checkpoint_bytes', wanted, f'{size}')}")
    return network


def _made(options: Options, facts: Facts, device: str) -> CSTACNN:
    chosen = asdict(options.model)
    with torch.device(device):
        network = CSTACNN(
            len(facts.classes),
            len(facts.joints.joints),
            options.clips.frames,
            facts.coordinates,
            **chosen,
        )
    return network.float()


def described(options: Options, facts: Facts) -> dict[str, Any]:
    """Options and facts as plain values, for a checkpoint."""
    plain = asdict(facts)
    plain["classes"] = list(facts.classes)
    return {"options": options.as_dict(), "facts": plain}


def packed(network: CSTACNN) -> dict[str, Tensor]:
    """The weights of a network as a checkpoint holds them."""
    return {_PREFIX + name: weight for name, weight in network.state_dict().items()}


def load(path: str | Path) -> Trained:
    """The network in a checkpoint, in evaluation mode on the CPU. Runs no code of the file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not a checkpoint of ``csta-fast train``.
    """
    return unpacked(read_checkpoint(Path(path)), path)


def unpacked(content: Mapping[str, Any], path: str | Path) -> Trained:
    """The network in what a checkpoint holds.

    Raises:
        ValueError: it does not hold what ``csta-fast train`` writes.
    """
    try:
        plain = content.get("hyper_parameters")
        if not isinstance(plain, Mapping):
            raise ValueError("it holds no options")
        options = Options.from_dict(plain.get("options"))
        facts = Facts.from_dict(plain.get("facts"))
        weights = _weights(content.get("state_dict"), outline(options, facts))
        network = _made(options, facts, "cpu")
        network.load_state_dict(weights)
    except ValueError as error:
        raise ValueError(
            f"checkpoint: wanted one that csta-fast train wrote, got {path}: {error}"
        ) from error
    network.eval()
    return Trained(network, options, facts)


def _weights(found: Any, network: CSTACNN) -> dict[str, Tensor]:
    """The weights in a checkpoint, which are those of a network, to the last shape."""
    if not isinstance(found, Mapping):
        raise ValueError("it holds no weights")
    weights = {}
    for name, like in network.state_dict().items():
        weights[name] = checked_tensor(found.get(_PREFIX + name), like, name)
    return weights


def checked_tensor(found: Any, like: Tensor, name: str) -> Tensor:
    """A tensor of a stranger's file, which is finite and what another one is in shape and dtype.

    Raises:
        ValueError: it is not, or it shows fewer numbers than it seems to have.
    """
    if not isinstance(found, Tensor) or found.layout is not torch.strided:
        raise ValueError(f"{name}: wanted a tensor, got {type(found).__name__}")
    if found.shape != like.shape or found.dtype != like.dtype:
        raise ValueError(
            f"{name}: wanted {tuple(like.shape)} {like.dtype}, "
            f"got {tuple(found.shape)} {found.dtype}"
        )
    if found.is_meta or found.untyped_storage().nbytes() < found.numel() * found.itemsize:
        raise ValueError(f"{name}: wanted {found.numel()} numbers, got fewer")
    if not found.isfinite().all():
        raise ValueError(f"{name}: wanted finite numbers, got others")
    return found.detach()
