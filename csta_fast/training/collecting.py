"""The recordings that options name, and whether a network is made for them."""

from __future__ import annotations

import warnings

from csta_fast import data
from csta_fast.data import Collection
from csta_fast.training.checkpoint import Facts
from csta_fast.training.options import DataOptions

SYNTHETIC = "synthetic"


def collect(options: DataOptions, *, progress: bool = False) -> Collection:
    """The recordings that the options name, generated if they name none.

    Warns how many files and samples could not be used.
    """
    if options.source == SYNTHETIC:
        return data.generate()
    collection = data.read(options.source, options.kind, progress=None if progress else False)
    if collection.skipped:
        name, reason = next(iter(collection.skipped.items()))
        warnings.warn(
            f"{len(collection.skipped)} files or samples of {options.source} are left out, "
            f"such as {name}: {reason}",
            stacklevel=2,
        )
    return collection


def same_kind(wanted: Facts, got: Facts) -> None:
    """Raise ValueError unless a network made for some facts can take data of others."""
    if wanted.classes != got.classes and len(wanted.classes) == len(got.classes):
        pairs = enumerate(zip(wanted.classes, got.classes, strict=True))
        label, (one, other) = next(each for each in pairs if each[1][0] != each[1][1])
        raise ValueError(f"source: wanted {one[:80]!r} as class {label}, got {other[:80]!r}")
    if wanted != got:
        raise ValueError(f"source: wanted recordings of {_summary(wanted)}, got {_summary(got)}")


def _summary(facts: Facts) -> str:
    return (
        f"{len(facts.classes)} classes of {facts.layout} in {facts.coordinates} coordinates "
        f"with up to {facts.persons} persons"
    )
