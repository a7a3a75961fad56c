"""A network with its loss, optimiser and figures, as Lightning wants them."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any

import lightning
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812
from torchmetrics import Metric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MulticlassConfusionMatrix

from csta_fast.data import Batch
from csta_fast.models import CSTACNN
from csta_fast.training.checkpoint import Facts, build
from csta_fast.training.options import Options

_DECAY = 0.99  # of the exponential schedule, an epoch; HCN's


class Classifier(lightning.LightningModule):
    """Trains a network to name the actions of clips.

    Logs ``train/loss``, ``train/top1``, ``train/seconds`` and ``train/clips_per_second`` once an
    epoch; ``loss``, ``top1`` and ``top5`` of ``val`` and ``test``; the confusion matrix of the
    last evaluation is kept in ``confusion`` (K, K), rows are true classes.

    Args:
        options: all of them.
        facts: of the data.
        network: in place of a fresh one.

    Attributes:
        moments: the state of the optimiser to begin with, by the parameters' numbers.
    """

    moments: Mapping[int, Mapping[str, Tensor]]

    def __init__(self, options: Options, facts: Facts, network: CSTACNN | None = None) -> None:
        super().__init__()
        self.options, self.facts = options, facts
        self.moments = {}
        self.network = build(options, facts) if network is None else network
        if options.training.channels_last:
            self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        classes = len(facts.classes)
        five = min(5, classes)
        figures: dict[str, Metric | MetricCollection] = {
            "top1": MulticlassAccuracy(classes, average="micro"),
            "top5": MulticlassAccuracy(classes, top_k=five, average="micro"),
        }
        self.validated = MetricCollection(figures, prefix="val/")
        self.tested = self.validated.clone(prefix="test/")
        self.confusions = MulticlassConfusionMatrix(classes)
        self.confusion = torch.zeros(classes, classes, dtype=torch.int64, device="cpu")
        self._begin = self._seconds = 0.0
        self._clips = 0

    def forward(self, batch: Batch) -> Tensor:
        """Scores (N, K)."""
        lengths = batch.lengths if self.options.clips.fit == "pad" else None
        scores: Tensor = self.network(batch.x, persons=batch.persons, lengths=lengths)
        return scores

    def on_train_epoch_start(self) -> None:
        # Dropout and the rate depend on options, epoch and process alone, so that a resumed
        # training goes on as an uninterrupted one does, also one that is to be longer now.
        seed = self.options.training.seed
        torch.manual_seed((seed * 100_003 + self.current_epoch) * 1009 + self.global_rank)
        optimiser = self.optimizers(use_pl_optimizer=False)
        assert isinstance(optimiser, torch.optim.Optimizer)
        for group in optimiser.param_groups:
            group["lr"] = group["initial_lr"] * self._share_of_rate()
        self._begin, self._clips = time.perf_counter(), 0

    def _share_of_rate(self) -> float:
        training, epoch = self.options.training, self.current_epoch
        if training.schedule == "cosine":
            return (1 + math.cos(math.pi * epoch / training.epochs)) / 2
        return float(_DECAY**epoch) if training.schedule == "exponential" else 1.0

    def training_step(self, batch: Batch, _index: int) -> Tensor:
        scores = self(batch)
        smoothing = self.options.training.smoothing
        loss = F.cross_entropy(scores, batch.labels, label_smoothing=smoothing)
        count = len(batch.labels)
        self._clips += count * self.trainer.world_size
        accuracy = (scores.detach().argmax(1) == batch.labels).float().mean()
        self.log_dict(
            {"train/loss": loss, "train/top1": accuracy},
            on_step=False,
            on_epoch=True,
            sync_dist=True,
            batch_size=count,
            prog_bar=True,
        )
        return loss

    def on_train_batch_end(self, *unused: Any) -> None:
        self._seconds = time.perf_counter() - self._begin

    def on_train_epoch_end(self) -> None:
        # Taken after the last step: validation comes between that and here.
        self.log("train/seconds", self._seconds, rank_zero_only=True)
        self.log("train/clips_per_second", self._clips / self._seconds, rank_zero_only=True)
        loss = self.trainer.callback_metrics["train/loss"]
        if not (loss.isfinite() and all(each.isfinite().all() for each in self.parameters())):
            raise FloatingPointError(
                f"training: diverged in epoch {self.current_epoch}, whose loss is {loss:.3g}; what "
                "may help: a smaller training.learning_rate, or training.gradient_norm 1"
            )

    def _evaluate(self, side: str, batch: Batch) -> None:
        scores = self(batch)
        self._figures(side).update(scores, batch.labels)
        self.confusions.update(scores, batch.labels)
        loss = F.cross_entropy(scores, batch.labels)
        self.log(f"{side}/loss", loss, sync_dist=True, batch_size=len(batch.labels))

    def _figures(self, side: str) -> MetricCollection:
        return self.validated if side == "val" else self.tested

    def _finish(self, side: str) -> None:
        figures = self._figures(side)
        self.log_dict(figures.compute(), prog_bar=True)
        figures.reset()
        self.confusion = self.confusions.compute().cpu()
        self.confusions.reset()

    def validation_step(self, batch: Batch, _index: int) -> None:
        self._evaluate("val", batch)

    def on_validation_epoch_end(self) -> None:
        self._finish("val")

    def test_step(self, batch: Batch, _index: int) -> None:
        self._evaluate("test", batch)

    def on_test_epoch_end(self) -> None:
        self._finish("test")

    @staticmethod
    def groups(network: CSTACNN) -> tuple[list[torch.nn.Parameter], list[torch.nn.Parameter]]:
        """The parameters that are trained, and among them those of the attention."""
        attention: list[torch.nn.Parameter] = []
        rest: list[torch.nn.Parameter] = []
        for name, parameter in network.named_parameters():
            if parameter.requires_grad:
                (attention if ".attention." in name else rest).append(parameter)
        return rest, attention

    def configure_optimizers(self) -> torch.optim.Optimizer:
        training = self.options.training
        rest, attention = self.groups(self.network)
        rate = training.attention_rate * training.learning_rate
        optimiser = torch.optim.Adam(
            [
                {
                    "params": rest,
                    "initial_lr": training.learning_rate,
                    "weight_decay": training.weight_decay,
                },
                {"params": attention, "initial_lr": rate},
            ],
            lr=training.learning_rate,
        )
        if self.moments:
            groups = optimiser.state_dict()["param_groups"]
            optimiser.load_state_dict({"state": dict(self.moments), "param_groups": groups})
        return optimiser
