"""A trained network, and the file it is kept in."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from csta_fast.data.layouts import LAYOUTS, Layout
from csta_fast.data.recordings import Collection
from csta_fast.models import CSTACNN
from csta_fast.training.options import Options

_PREFIX = "network."


@dataclass(frozen=True)
class Facts:
    """What a network must know of the data it is made for.

    Attributes:
        layout: name of the recordings' layout.
        classes: a name for every label.
        coordinates: of a position.
        persons: most people in a clip.
    """

    layout: str
    classes: tuple[str, ...]
    coordinates: int
    persons: int

    @staticmethod
    def of(collection: Collection, persons: int | None) -> Facts:
        """The facts of a collection; with its largest number of persons unless given."""
        shapes = [recording.positions.shape for recording in collection.recordings]
        if persons is None:
            persons = max(shape[0] for shape in shapes)
        return Facts(collection.layout.name, collection.classes, shapes[0][3], persons)

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
    """A fresh network as the options want it, for data of which these facts hold."""
    chosen = asdict(options.model)
    return CSTACNN(
        len(facts.classes),
        len(facts.joints.joints),
        options.clips.frames,
        facts.coordinates,
        **chosen,
    )


def described(options: Options, facts: Facts) -> dict[str, Any]:
    """Options and facts as plain values, for a checkpoint."""
    plain = asdict(facts)
    plain["classes"] = list(facts.classes)
    return {"options": options.as_dict(), "facts": plain}


def load(path: str | Path) -> Trained:
    """The network in a checkpoint, in evaluation mode on the CPU. Runs no code of the file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not a checkpoint of ``csta-fast train``.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        plain = content["hyper_parameters"]
        options = Options.from_dict(plain["options"])
        facts = plain["facts"] | {"classes": tuple(plain["facts"]["classes"])}
        trained = Trained(build(options, Facts(**facts)), options, Facts(**facts))
        weights = {
            name.removeprefix(_PREFIX): weight
            for name, weight in content["state_dict"].items()
            if name.startswith(_PREFIX)
        }
        trained.network.load_state_dict(weights)
    except (FileNotFoundError, IsADirectoryError, PermissionError):
        raise
    except Exception as error:  # what PyTorch makes of a file that is no checkpoint
        reason = str(error).partition("\n")[0]
        raise ValueError(
            f"checkpoint: wanted one that csta-fast train wrote, got {path}: {reason}"
        ) from error
    trained.network.eval()
    return trained
