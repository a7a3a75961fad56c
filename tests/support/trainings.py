"""Small trainings for tests, and what they leave."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from csta_fast.data import ClipOptions
from csta_fast.training import DataOptions, ModelOptions, Options, TrainingOptions

OPTIONS = Options(
    DataOptions(validation="test"),
    ClipOptions(frames=16),
    ModelOptions(dropout=0.2),
    TrainingOptions(epochs=2, batch=8, accelerator="cpu", progress=False),
)


def training(**changes: Any) -> Options:
    """The same options, those of the training changed."""
    return replace(OPTIONS, training=replace(OPTIONS.training, **changes))


def content(checkpoint: Path) -> dict[str, Any]:
    """What a checkpoint holds."""
    found: dict[str, Any] = torch.load(checkpoint, weights_only=True)
    return found


def rows(output: Path) -> list[dict[str, str]]:
    """Every row of a run's log, without what a clock says."""
    with (output / "log" / "metrics.csv").open() as file:
        found = list(csv.DictReader(file))
    clocks = ("train/seconds", "train/clips_per_second")
    return [{name: value for name, value in row.items() if name not in clocks} for row in found]


def column(output: Path, name: str) -> list[float]:
    """The figures of that name, where there is one."""
    with (output / "log" / "metrics.csv").open() as file:
        return [float(row[name]) for row in csv.DictReader(file) if row.get(name)]
