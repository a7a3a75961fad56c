"""Training and evaluating: from options to files in a folder."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import lightning
import numpy as np
import torch
import yaml
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.loggers import TensorBoardLogger

from csta_fast import plots
from csta_fast.data import Collection
from csta_fast.training.checkpoint import Facts, load
from csta_fast.training.classifier import Classifier
from csta_fast.training.collecting import collect, same_kind
from csta_fast.training.datamodule import ClipsModule
from csta_fast.training.files import check_writable, prepare, refuse_link, replacing, write
from csta_fast.training.keeper import Keeper
from csta_fast.training.options import Options
from csta_fast.training.progress import announce, shown
from csta_fast.training.resume import BEST, LAST, check_options, check_recordings, stand
from csta_fast.training.state import fingerprint
from csta_fast.version import __version__

_FOLDERS = "checkpoints", "log"


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
    of every epoch, and what ``evaluate`` writes. A resumed training may move, be longer, and go on
    with another recipe or on another machine; network, clips, split and seed stay.

    Args:
        options: all of them.
        output: a folder, new unless ``resume``.
        resume: go on from the newest whole checkpoint in it.
        collection: the recordings, if they are in memory already.

    Raises:
        FileExistsError: the folder holds a training and ``resume`` is not set.
        FileNotFoundError: ``resume`` is set and there is nothing to go on from.
        ValueError: the recordings cannot be trained on, such as those of one class; or ``resume``
            is set and the training is another one. The message names what.
        FloatingPointError: the loss or a weight is no number any more.
        KeyboardInterrupt: the process was interrupted or told to end.
    """
    output = Path(output)
    found = stand(output) if resume else None
    if found is not None:
        check_options(found.state, options)
    elif any((output / name).exists() for name in (LAST, BEST)):
        raise FileExistsError(
            f"output: {output} holds a training already; resume it, or name another folder"
        )
    check_writable(output)
    _set_up(options)
    if collection is None:
        collection = collect(options.data, progress=options.training.progress)
    facts, recordings = Facts.of(collection, options.data.persons), fingerprint(collection)
    if found is not None:
        check_recordings(found.state, facts, recordings)
    clips = ClipsModule(collection, options, facts)
    clips.check_classes()
    classifier = Classifier(options, facts)
    done, best = (0, None) if found is None else (found.state.epoch + 1, found.best)
    keeper = Keeper(output, recordings, done, best)
    trainer = _trainer(
        options,
        callbacks=[*shown(options.training.progress), keeper],
        logger=_board(output) if options.training.log == "tensorboard" else False,
    )
    if trainer.is_global_zero:
        if options.training.progress:
            announce(trainer, classifier, collection, clips, output, done)
        prepare(output, *_FOLDERS)
        write(output / "options.yaml", yaml.safe_dump(options.as_dict(), sort_keys=False))
    if found is not None:
        found.state.restore(trainer, classifier)
    with _interruptible():
        trainer.fit(classifier, clips)
    kept = output / (BEST if keeper.best is not None else LAST)
    classifier.network.load_state_dict(load(kept).network.state_dict())
    return _judge(trainer, classifier, clips, output, kept)


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
        FloatingPointError: the loss is no number.
    """
    if output is not None:
        check_writable(Path(output))
    trained = load(checkpoint)
    data = trained.options.data
    options = replace(
        trained.options,
        data=replace(
            replace(data, validation="none", workers=min(data.workers, os.cpu_count() or 1)),
            **(changes or {}),
        ),
        # Of this machine, and not of that which trained.
        training=replace(
            trained.options.training, accelerator="auto", devices=1, nodes=1, threads=None
        ),
    )
    _set_up(options)
    if collection is None:
        collection = collect(options.data, progress=options.training.progress)
    facts = Facts.of(collection, trained.facts.persons)
    same_kind(trained.facts, facts)
    clips = ClipsModule(collection, options, facts)
    bar = shown(options.training.progress)
    trainer = _trainer(options, callbacks=bar, logger=False, enable_checkpointing=False)
    classifier = Classifier(options, facts, trained.network)
    return _judge(
        trainer, classifier, clips, None if output is None else Path(output), Path(checkpoint)
    )


def _set_up(options: Options) -> None:
    training = options.training
    if training.threads is not None:
        torch.set_num_threads(training.threads)
    lightning.seed_everything(training.seed, verbose=False)


def _trainer(options: Options, **more: Any) -> lightning.Trainer:
    training = options.training
    slurm = SLURMEnvironment(auto_requeue=False) if SLURMEnvironment.detect() else None
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
            enable_progress_bar=any(
                isinstance(each, ProgressBar) for each in more.get("callbacks", [])
            ),
            enable_model_summary=False,
            plugins=slurm,
            # Lightning goes on, by itself, from files that it finds here: none.
            default_root_dir=os.devnull,
            **more,
        )
    except (MisconfigurationException, TypeError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(
            f"accelerator: wanted what this machine has, got {training.accelerator!r} and "
            f"{training.devices!r} devices: {reason}"
        ) from error


def _board(output: Path) -> TensorBoardLogger:
    """TensorBoard's, in the folder of the log."""
    refuse_link(output / "log" / "hparams.yaml")  # it would be written through
    return TensorBoardLogger(output, name="", version="log")


@contextmanager
def _interruptible() -> Iterator[None]:
    """An interruption is one for the caller, where Lightning would end the process."""
    main = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as stop:
        if main:
            signal.signal(signal.SIGINT, handler)  # Lightning left it ignored
        raise KeyboardInterrupt from stop


def _judge(
    trainer: lightning.Trainer,
    classifier: Classifier,
    clips: ClipsModule,
    output: Path | None,
    checkpoint: Path,
) -> Outcome:
    """Evaluate on the test recordings and write what came of it."""
    with _interruptible():
        found = trainer.test(classifier, clips, verbose=False)[0]
    figures = {name.removeprefix("test/"): value for name, value in found.items()}
    if not math.isfinite(figures["loss"]):
        raise FloatingPointError(
            f"evaluation: wanted a loss that is a number, got {figures['loss']}: the weights of "
            f"{checkpoint} are too large for the recordings"
        )
    outcome = Outcome(figures, classifier.confusion.numpy(), checkpoint)
    if output is not None and trainer.is_global_zero:
        prepare(output)
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
        write(output / "result.json", json.dumps(result, indent=1) + "\n")
        table = io.StringIO()
        rows = zip(classes, outcome.confusion.tolist(), strict=True)
        writer = csv.writer(table, lineterminator="\n")
        writer.writerow(("true class", *classes))
        writer.writerows((name, *row) for name, row in rows)
        write(output / "confusion.csv", table.getvalue())
        with replacing(output / "confusion.png") as file:
            plots.confusion(outcome.confusion, classes).savefig(file, dpi=150)
    return outcome
