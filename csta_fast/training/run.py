"""Training and evaluating: from options to files in a folder."""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import lightning
import numpy as np
import torch
import yaml
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import callbacks
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger

from csta_fast import plots
from csta_fast.data import Collection
from csta_fast.training.checkpoint import Facts, load
from csta_fast.training.classifier import Classifier
from csta_fast.training.collecting import collect, same_kind
from csta_fast.training.datamodule import ClipsModule
from csta_fast.training.options import Options
from csta_fast.version import __version__

BEST, LAST = "checkpoints/best.ckpt", "checkpoints/last.ckpt"


class Outcome(NamedTuple):
    """What came of a training or an evaluation.

    Attributes:
        figures: ``top1`` and ``top5`` as shares of 1 and ``loss``, on the test recordings.
        confusion: clips (K, K) of a true class (row) that were given a class (column).
        checkpoint: what was evaluated.
    """

    figures: dict[str, float]
    confusion: np.ndarray[Any, np.dtype[np.int64]]
    checkpoint: Path


def train(
    options: Options,
    output: str | Path,
    *,
    resume: bool = False,
    collection: Collection | None = None,
) -> Outcome:
    """Train a network and evaluate its best epoch on the test recordings.

    Writes into ``output``: ``options.yaml``, ``checkpoints/best.ckpt`` and ``last.ckpt``, the log
    of every epoch, and what ``evaluate`` writes.

    Args:
        options: all of them.
        output: a folder, new unless ``resume``.
        resume: go on from ``checkpoints/last.ckpt`` in it.
        collection: the recordings, if they are in memory already.

    Raises:
        FileExistsError: the folder holds a training and ``resume`` is not set.
        FileNotFoundError: ``resume`` is set and there is nothing to go on from.
        ValueError: ``resume`` is set and network, clips or split are not those of the training.
    """
    output = Path(output)
    last = output / LAST
    if resume and not last.exists():
        raise FileNotFoundError(f"output: wanted a training to go on with, {last} does not exist")
    if last.exists() and not resume:
        raise FileExistsError(
            f"output: {output} holds a training already; resume it, or name another folder"
        )
    if resume:
        _same_training(load(last).options, options)
    training = options.training
    _set_up(options)
    if collection is None:
        collection = collect(options.data, progress=training.progress)
    facts = Facts.of(collection, options.data.persons)
    clips = ClipsModule(collection, options, facts)
    keepers = _keepers(output, bool(len(clips.validation)))
    logger: Logger
    if training.log == "tensorboard":
        logger = TensorBoardLogger(output, name="", version="log")
    else:
        logger = CSVLogger(output, name="", version="log")
    trainer = _trainer(options, callbacks=keepers, logger=logger, default_root_dir=output)
    classifier = Classifier(options, facts)
    if trainer.is_global_zero:
        output.mkdir(parents=True, exist_ok=True)
        (output / "options.yaml").write_text(yaml.safe_dump(options.as_dict(), sort_keys=False))
        if resume and isinstance(logger, CSVLogger):
            _keep_rows(logger, output / "log" / "metrics.csv")
    trainer.fit(classifier, clips, ckpt_path=last if resume else None, weights_only=True)
    best = output / (BEST if len(clips.validation) else LAST)
    classifier.network.load_state_dict(load(best).network.state_dict())
    return _judge(trainer, classifier, clips, output, best)


def evaluate(
    checkpoint: str | Path,
    output: str | Path | None = None,
    *,
    changes: Mapping[str, Any] | None = None,
    collection: Collection | None = None,
) -> Outcome:
    """Evaluate a trained network on test recordings, on one device.

    Writes into ``output``: ``result.json``, ``confusion.csv`` and ``confusion.png``.

    Args:
        checkpoint: as ``train`` writes it.
        output: a folder; nothing is written without it.
        changes: options of the data that differ from those that it was trained with.
        collection: the recordings, if they are in memory already.

    Raises:
        ValueError: the recordings have other joints or classes than the network was made for.
    """
    trained = load(checkpoint)
    options = replace(
        trained.options,
        data=replace(trained.options.data, validation="none", **(changes or {})),
        training=replace(trained.options.training, accelerator="auto", devices=1, nodes=1),
    )
    _set_up(options)
    if collection is None:
        collection = collect(options.data, progress=options.training.progress)
    facts = Facts.of(collection, trained.facts.persons)
    same_kind(trained.facts, facts)
    clips = ClipsModule(collection, options, facts)
    trainer = _trainer(options, logger=False, enable_checkpointing=False)
    classifier = Classifier(options, facts, trained.network)
    return _judge(
        trainer, classifier, clips, None if output is None else Path(output), Path(checkpoint)
    )


def _same_training(before: Options, now: Options) -> None:
    """What a training goes on with may move, take longer or run elsewhere; else it is another."""
    old, new = before.as_dict(), now.as_dict()
    for section in ("data", "clips", "model"):
        for name, value in new[section].items():
            if old[section][name] != value and name not in ("source", "kind", "workers", "backend"):
                raise ValueError(
                    f"{section}.{name}: wanted {old[section][name]!r}, as the training that is to "
                    f"go on has it, got {value!r}"
                )


class _Lines(callbacks.Callback):
    """How far a training is, where no terminal shows a bar: a line for every epoch."""

    def on_train_epoch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        if trainer.is_global_zero:
            names = ("train/loss", "train/top1", "val/top1")
            found = {name: trainer.callback_metrics.get(name) for name in names}
            figures = [f"{name} {value:.3f}" for name, value in found.items() if value is not None]
            epoch = f"epoch {trainer.current_epoch + 1} of {trainer.max_epochs}"
            print(": ".join((epoch, ", ".join(figures))), file=sys.stderr, flush=True)


def _set_up(options: Options) -> None:
    training = options.training
    if training.threads is not None:
        torch.set_num_threads(training.threads)
    lightning.seed_everything(training.seed, verbose=False)


def _keep_rows(logger: CSVLogger, file: Path) -> None:
    """Have a logger add to a file, which it would begin anew."""
    if not file.exists():
        return
    rows = file.read_bytes()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it deletes the file
        writer = logger.experiment
    file.write_bytes(rows)
    writer.metrics_keys = rows.splitlines()[0].decode().split(",")


def _keepers(output: Path, validated: bool) -> list[callbacks.ModelCheckpoint]:
    """Keep the last epoch, and the one with the best validation top-1, the first of equals."""

    def keeper(name: str, monitor: str | None) -> callbacks.ModelCheckpoint:
        return callbacks.ModelCheckpoint(
            (output / name).parent,
            Path(name).stem,
            monitor=monitor,
            mode="max",
            save_on_train_epoch_end=True,
            enable_version_counter=False,
        )

    # The last one comes last: it holds the memory of which one is the best.
    return [*([keeper(BEST, "val/top1")] if validated else []), keeper(LAST, None)]


def _trainer(options: Options, **more: Any) -> lightning.Trainer:
    training = options.training
    bar = training.progress and sys.stdout.isatty()  # where the bar is drawn
    shown = callbacks.RichProgressBar() if bar else _Lines()
    try:
        return lightning.Trainer(
            max_epochs=training.epochs,
            accelerator=training.accelerator,
            devices=training.devices,
            num_nodes=training.nodes,
            precision=training.precision,
            deterministic=training.deterministic,
            gradient_clip_val=training.gradient_norm or None,
            use_distributed_sampler=False,
            num_sanity_val_steps=0,
            log_every_n_steps=1,
            enable_progress_bar=bar,
            enable_model_summary=False,
            **more | {"callbacks": [shown] * training.progress + more.get("callbacks", [])},
        )
    except (MisconfigurationException, TypeError, ValueError) as error:
        raise ValueError(
            f"accelerator, devices: wanted what this machine has, got {training.accelerator!r} and "
            f"{training.devices!r}: {error}"
        ) from error


def _judge(
    trainer: lightning.Trainer,
    classifier: Classifier,
    clips: ClipsModule,
    output: Path | None,
    checkpoint: Path,
) -> Outcome:
    """Evaluate on the test recordings and write what came of it."""
    found = trainer.test(classifier, clips, verbose=False)[0]
    figures = {name.removeprefix("test/"): value for name, value in found.items()}
    outcome = Outcome(figures, classifier.confusion.numpy(), checkpoint)
    if output is not None and trainer.is_global_zero:
        output.mkdir(parents=True, exist_ok=True)
        classes = classifier.facts.classes
        result = figures | {
            "clips": int(outcome.confusion.sum()),
            "classes": len(classes),
            "checkpoint": checkpoint.name,
            "source": str(classifier.options.data.source),
            "protocol": clips.protocol,
            "seed": classifier.options.training.seed,
            "csta_fast": __version__,
            "torch": torch.__version__,
        }
        (output / "result.json").write_text(json.dumps(result, indent=1) + "\n")
        with (output / "confusion.csv").open("w", encoding="utf-8") as file:
            file.write(",".join(("true class", *classes)) + "\n")
            for name, row in zip(classes, outcome.confusion, strict=True):
                file.write(",".join((name, *map(str, row))) + "\n")
        plots.confusion(outcome.confusion, classes).savefig(output / "confusion.png", dpi=150)
    return outcome
