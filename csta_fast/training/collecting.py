"""The recordings that options name, and whether a network is made for them."""

from __future__ import annotations

from csta_fast import data
from csta_fast.data import Collection
from csta_fast.training.checkpoint import Facts
from csta_fast.training.options import DataOptions

SYNTHETIC = "synthetic"


def collect(options: DataOptions, *, progress: bool = False) -> Collection:
    """The recordings that the options name, generated if they name none."""
    if options.source == SYNTHETIC:
        return data.generate()
    return data.read(options.source, options.kind, progress=None if progress else False)


def same_kind(wanted: Facts, got: Facts) -> None:
    """Raise ValueError unless a network made for some facts can take data of others."""
    if wanted != got:
        raise ValueError(f"source: wanted recordings of {_summary(wanted)}, got {_summary(got)}")


def _summary(facts: Facts) -> str:
    return f"{len(facts.classes)} classes of {facts.layout} in {facts.coordinates} coordinates"
