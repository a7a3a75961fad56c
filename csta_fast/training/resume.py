"""Going on with a training: from which checkpoint, and whether it is the same training."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import NamedTuple

from csta_fast.training.checkpoint import Facts
from csta_fast.training.collecting import same_kind
from csta_fast.training.files import refuse_link
from csta_fast.training.options import Options
from csta_fast.training.state import State

BEST, LAST = "checkpoints/best.ckpt", "checkpoints/last.ckpt"

# What may be other than it was: the source can have moved, the machine can be another one, and a
# training can go on with another recipe. All else makes another network, or another experiment.
_FREE = {
    "data": {"source", "kind", "workers"},
    "clips": set[str](),
    "model": {"backend"},
    "training": set(Options().as_dict()["training"]) - {"seed"},
}


class Stand(NamedTuple):
    """Where a run stands.

    Attributes:
        state: after its newest whole checkpoint.
        best: the validation top-1 of the best epoch that is kept; None where none is.
    """

    state: State
    best: float | None


def stand(output: Path) -> Stand:
    """Where the run in a folder stands. A damaged checkpoint is passed over with a warning.

    Which epoch is the best, is read in ``best.ckpt`` itself: wherever a run is moved, and whatever
    its files say about paths, it keeps that one.

    Raises:
        FileNotFoundError: the folder holds no training.
        ValueError: none of its checkpoints is whole.
    """
    refuse_link((output / LAST).parent)
    found: dict[str, State] = {}
    damaged: list[str] = []
    for name in (LAST, BEST):
        try:
            found[name] = State.read(output / name)
        except FileNotFoundError:
            continue
        except ValueError as error:
            damaged.append(str(error))
    if not found and damaged:
        raise ValueError(damaged[0])
    if not found:
        raise FileNotFoundError(
            f"output: wanted a training to go on with, {output / LAST} does not exist"
        )
    newest = max(found.values(), key=lambda state: state.epoch)  # the last one, of equals
    for reason in damaged:
        warnings.warn(f"going on from epoch {newest.epoch + 1}: {reason}", stacklevel=2)
    return Stand(newest, found[BEST].top1 if BEST in found else None)


def check_options(state: State, options: Options) -> None:
    """Raise ValueError if a training cannot go on under options: the message names the first."""
    before, now = state.trained.options.as_dict(), options.as_dict()
    for section, values in now.items():
        for name, value in values.items():
            if before[section][name] != value and name not in _FREE[section]:
                raise ValueError(
                    f"{section}.{name}: wanted {before[section][name]!r}, as the training that is "
                    f"to go on has it, got {value!r}"
                )
    if options.training.epochs <= state.epoch:
        raise ValueError(
            f"training.epochs: wanted at least {state.epoch + 1}, which are done, "
            f"got {options.training.epochs}"
        )


def check_recordings(state: State, facts: Facts, recordings: str) -> None:
    """Raise ValueError if a training would go on with other recordings than it began with."""
    same_kind(state.trained.facts, facts)
    if state.recordings != recordings:
        raise ValueError(
            "source: wanted the recordings that the training began with, got others of the same "
            "kind: names, labels, subjects or positions differ"
        )
