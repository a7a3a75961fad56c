"""What a training says: on what it begins, and how far it is."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch import callbacks
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn

from csta_fast import backends
from csta_fast.data import Clips, Collection
from csta_fast.training.classifier import Classifier
from csta_fast.training.datamodule import ClipsModule

_FIGURES = {"train/loss": "loss", "train/top1": "train", "val/top1": "val"}


def shown(wanted: bool) -> list[callbacks.Callback]:
    """A bar, or lines where no terminal shows it, if it is wanted."""
    if not wanted:
        return []
    return [Bar() if sys.stdout.isatty() else Lines()]


class Bar(callbacks.RichProgressBar):
    """Lightning's, in 80 columns."""

    def configure_columns(self, trainer: lightning.Trainer) -> list[Any]:
        return [
            TextColumn("{task.description}"),
            BarColumn(bar_width=8),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
        ]

    def get_metrics(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> dict[str, Any]:
        found = super().get_metrics(trainer, pl_module)
        return {short: found[name] for name, short in _FIGURES.items() if name in found}


class Lines(callbacks.Callback):
    """A line for every epoch."""

    def on_train_epoch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        found = dict(trainer.callback_metrics)  # by every process: together they make sums
        if trainer.is_global_zero:
            figures = [f"{name} {found[name]:.3f}" for name in _FIGURES if name in found]
            epoch = f"epoch {trainer.current_epoch + 1} of {trainer.max_epochs}"
            print(": ".join((epoch, ", ".join(figures))), file=sys.stderr, flush=True)


def announce(
    trainer: lightning.Trainer,
    classifier: Classifier,
    collection: Collection,
    clips: ClipsModule,
    output: Path,
    done: int,
) -> None:
    """Say which network is trained on what, where, and for how long."""
    options = classifier.options
    model, training = options.model, options.training
    size = sum(each.numel() for each in classifier.parameters() if each.requires_grad)
    device = trainer.strategy.root_device
    network = "HCN without attention"
    where = f"{trainer.world_size} × {device.type}, {torch.get_num_threads()} threads"
    if model.axes != "none":
        network = f"CSTA-CNN, axes {model.axes}, place {model.place}, streams {model.streams}"
        x = torch.zeros(1, 64, 2, 2, device=device)
        where += f", attention by {backends.select(x, model.backend).name}"
    subjects = {each.subject for each in collection.recordings} - {None}
    epochs = f"{training.epochs} epochs" + (f", {done} of them done" if done else "")
    lines = (
        f"network: {network}; {size:,} parameters",
        f"recordings: {len(collection.recordings):,} of {collection.name}, "
        f"{len(collection.classes)} classes, {len(subjects) or 'unknown'} subjects",
        f"protocol: {clips.protocol}; train {_count(clips.train)}, validation "
        f"{_count(clips.validation)} ({options.data.validation}), test {_count(clips.test)}",
        f"training: {epochs}, batches of {training.batch}; {where}",
        f"output: {output}",
    )
    print("\n".join(lines), file=sys.stderr, flush=True)


def _count(clips: Clips) -> str:
    return f"{len(clips):,}"
