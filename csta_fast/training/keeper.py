"""What a training writes after every epoch: a row of its log, and checkpoints."""

from __future__ import annotations

import csv
import io
import os
from pathlib import Path
from typing import Any

import lightning
from lightning.pytorch import callbacks

from csta_fast.training.classifier import Classifier
from csta_fast.training.files import write
from csta_fast.training.reading import read_text
from csta_fast.training.resume import BEST, LAST
from csta_fast.training.state import pack

LOG = "log/metrics.csv"


class Keeper(callbacks.Checkpoint):
    """Keeps the log, the last epoch, and the one of the best validation top-1, the first of equals.

    Each file is whole at all times, and the one before stays until the next is. The log comes
    first and the last epoch last: whatever is cut off in between, the training goes on from what is
    newest, and rows of epochs that are trained again are dropped.

    Args:
        output: folder of the run.
        recordings: their fingerprint.
        done: whole epochs of the training before.
        best: validation top-1 of the best of them.
    """

    def __init__(
        self, output: Path, recordings: str, done: int = 0, best: float | None = None
    ) -> None:
        self.output, self.recordings = output, recordings
        self.best = best
        self._rows = Rows(output / LOG, done)

    def on_train_epoch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        assert isinstance(pl_module, Classifier)
        # Every process asks for the figures: together they make sums over all of them.
        figures = {name: float(value) for name, value in trainer.callback_metrics.items()}
        top1 = figures.get("val/top1")
        better = top1 is not None and (self.best is None or top1 > self.best)
        if better:
            self.best = top1
        if trainer.is_global_zero:
            self._rows.add({"epoch": trainer.current_epoch, "step": trainer.global_step} | figures)
            content = pack(trainer, pl_module, top1, self.recordings)
            for name in (BEST, LAST) if better else (LAST,):
                write(self.output / name, content)
        trainer.strategy.barrier("checkpoint")


class Rows:
    """A table of figures, one row an epoch, whose file is whole after every row.

    Args:
        file: the table; a row of it is kept if its epoch is before ``done``.
        done: epochs that need no further row.

    Raises:
        ValueError: the file is there and is no such table.
    """

    def __init__(self, file: Path, done: int) -> None:
        self._file = file
        self._rows: list[dict[str, Any]] = []
        if done and os.path.lexists(file):
            try:
                if file.is_symlink():
                    raise ValueError("a link may lead anywhere")
                found = list(csv.DictReader(io.StringIO(read_text(file, "log"))))
                self._rows = [row for row in found if int(row["epoch"]) < done]
            except (csv.Error, KeyError, TypeError, ValueError) as error:
                raise ValueError(
                    f"output: wanted the figures of every epoch, got {file}; move it away to go on"
                ) from error

    def add(self, row: dict[str, float]) -> None:
        """One more row, and the file anew."""
        self._rows.append(row)
        names = list(dict.fromkeys(name for each in self._rows for name in each if name))
        text = io.StringIO()
        writer = csv.DictWriter(text, names, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(self._rows)
        write(self._file, text.getvalue())
