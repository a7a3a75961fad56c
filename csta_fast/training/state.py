"""Where a training stands: what it writes after every epoch, and goes on from.

A checkpoint of a training is that of its network and, beside it, the plain numbers and the moments
of the optimiser that another epoch needs. Nothing else in it is looked at: no state of a callback,
no schedule, no path.
"""

from __future__ import annotations

import hashlib
import io
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from lightning.pytorch.plugins import MixedPrecision
from torch import Tensor

from csta_fast.data import Collection
from csta_fast.training.checkpoint import Trained, checked_tensor, described, packed, unpacked
from csta_fast.training.classifier import Classifier
from csta_fast.training.reading import read_checkpoint

_MOST = 2**53  # of a count: so many are exact in float64
_MOMENTS = ("exp_avg", "exp_avg_sq")


@dataclass(frozen=True)
class State:
    """A training after a whole epoch.

    Attributes:
        trained: its network, options and facts.
        epoch: the last whole one, counted from 0.
        step: of the optimiser, all that were made.
        optimiser: the state of every parameter, by its number.
        scaler: scale and steps since it grew last, of 16-bit floating point.
        top1: share of validation clips that were named right after this epoch.
        recordings: the fingerprint of the recordings.
    """

    trained: Trained
    epoch: int
    step: int
    optimiser: dict[int, dict[str, Tensor]]
    scaler: tuple[float, int] | None
    top1: float | None
    recordings: str

    @staticmethod
    def read(path: Path) -> State:
        """That in a checkpoint.

        Raises:
            OSError: it cannot be read.
            ValueError: it is damaged, or no training can go on from it.
        """
        content = read_checkpoint(path)
        trained = unpacked(content, path)
        try:
            return State(
                trained,
                _count(content, "epoch"),
                _count(content, "global_step"),
                _optimiser(content.get("optimizer_states"), trained),
                _scaler(content.get("scaler")),
                _top1(content.get("top1")),
                _text(content.get("recordings")),
            )
        except ValueError as error:
            raise ValueError(
                f"checkpoint: wanted one to go on from, got {path}: {error}"
            ) from error

    def restore(self, trainer: lightning.Trainer, classifier: Classifier) -> None:
        """Have a training go on behind the epoch, under the options of the classifier."""
        classifier.network.load_state_dict(self.trained.network.state_dict())
        classifier.moments = self.optimiser
        done, loop = self.epoch + 1, trainer.fit_loop
        for progress in (loop.epoch_progress.total, loop.epoch_progress.current):
            progress.increment_by(done)
        steps = loop.epoch_loop.automatic_optimization.optim_progress.optimizer.step
        steps.total.increment_by(self.step)
        loop.epoch_loop._batches_that_stepped = self.step
        scaler = _scaler_of(trainer)
        if scaler is not None and self.scaler is not None:
            restored = dict(zip(("scale", "_growth_tracker"), self.scaler, strict=True))
            scaler.load_state_dict(scaler.state_dict() | restored)


def pack(
    trainer: lightning.Trainer, classifier: Classifier, top1: float | None, recordings: str
) -> bytes:
    """A checkpoint of a training after the epoch that has just ended."""
    scaler = _scaler_of(trainer)
    plain = None if scaler is None else scaler.state_dict()
    file = io.BytesIO()
    content = {
        "hyper_parameters": described(classifier.options, classifier.facts),
        "state_dict": packed(classifier.network),
        "epoch": trainer.current_epoch,
        "global_step": trainer.global_step,
        "optimizer_states": [each.state_dict() for each in trainer.optimizers],
        "scaler": [plain["scale"], plain["_growth_tracker"]] if plain else None,
        "top1": top1,
        "recordings": recordings,
    }
    torch.save(content, file)
    return file.getvalue()


def fingerprint(collection: Collection) -> str:
    """What tells the recordings of one collection from those of another; not how they are split."""
    digest = hashlib.sha256()
    for each in collection.recordings:
        numbers = (each.label, each.subject, each.camera, each.setup, each.view)
        plain = [None if number is None else int(number) for number in numbers]
        digest.update(repr((each.name, plain, each.positions.shape)).encode())
        digest.update(np.ascontiguousarray(each.positions).reshape(-1).data)
    return digest.hexdigest()


def _scaler_of(trainer: lightning.Trainer) -> Any:
    plugin = trainer.precision_plugin
    return plugin.scaler if isinstance(plugin, MixedPrecision) else None


def _count(content: Mapping[str, Any], name: str) -> int:
    value = content.get(name)
    if type(value) is not int or not 0 <= value < _MOST:
        raise ValueError(f"{name}: wanted a count, got {type(value).__name__}")
    return value


def _number(value: Any, name: str) -> float:
    if type(value) is not float or not math.isfinite(value):
        raise ValueError(f"{name}: wanted a finite number, got {type(value).__name__}")
    return value


def _top1(value: Any) -> float | None:
    return None if value is None else _number(value, "top1")


def _text(value: Any) -> str:
    if type(value) is not str:
        raise ValueError(f"recordings: wanted a fingerprint, got {type(value).__name__}")
    return value


def _scaler(value: Any) -> tuple[float, int] | None:
    if value is None:
        return None
    if type(value) is not list or len(value) != 2:
        raise ValueError(f"scaler: wanted two numbers, got {type(value).__name__}")
    scale = _number(value[0], "scaler")
    if not 0 < scale < 2.0**40:
        raise ValueError(f"scaler: wanted a scale above 0, got {scale}")
    return scale, _count({"scaler": value[1]}, "scaler")


def _optimiser(found: Any, trained: Trained) -> dict[int, dict[str, Tensor]]:
    """The moments of Adam, each like the parameter that it belongs to."""
    parameters = [parameter for group in Classifier.groups(trained.network) for parameter in group]
    if type(found) is not list or len(found) != 1 or not isinstance(found[0], Mapping):
        raise ValueError("optimizer_states: wanted that of one optimiser")
    states = found[0].get("state")
    if not isinstance(states, Mapping) or len(states) > len(parameters):
        raise ValueError("optimizer_states: wanted a state for every parameter")
    checked: dict[int, dict[str, Tensor]] = {}
    for number, state in states.items():
        if type(number) is not int or not 0 <= number < len(parameters):
            raise ValueError("optimizer_states: wanted the numbers of parameters")
        if not isinstance(state, Mapping) or set(state) != {"step", *_MOMENTS}:
            raise ValueError(f"optimizer_states: wanted step, {', '.join(_MOMENTS)}")
        name = f"optimizer_states.{number}"
        step = checked_tensor(state["step"], torch.zeros(()), f"{name}.step")
        moments = {
            moment: checked_tensor(state[moment], parameters[number], f"{name}.{moment}")
            for moment in _MOMENTS
        }
        if step < 0 or (moments["exp_avg_sq"] < 0).any():
            raise ValueError(f"{name}: wanted a step and squares of at least 0")
        checked[number] = {"step": step, **moments}
    return checked
