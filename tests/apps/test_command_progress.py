"""What csta-fast train says as it goes, and how it ends when it does not end well."""

from __future__ import annotations

import csv
import io
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

pytest.importorskip("lightning", reason="the extra 'train' is not installed")

from lightning.pytorch.callbacks.progress.rich_progress import CustomProgress, MetricsTextColumn
from rich.console import Console

from csta_fast.cli import main
from csta_fast.data import generate
from csta_fast.training import LAST, load
from csta_fast.training.progress import Bar

pytestmark = pytest.mark.filterwarnings("ignore")

_SMALL = (
    "--clips.frames=16", "--model.dropout=0", "--training.epochs=1", "--training.batch=16",
    "--training.accelerator=cpu", "--training.progress=false",
)  # fmt: skip


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "actions.npz"
    generate(4, 4, 4, frames=(20, 30)).save(path)
    return path


def _column(output: Path, name: str) -> list[float]:
    with (output / "log" / "metrics.csv").open() as file:
        return [float(row[name]) for row in csv.DictReader(file) if row.get(name)]


def test_a_training_says_first_what_it_does(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = [each for each in _SMALL if "progress" not in each]
    assert main(["train", f"--data.source={source}", f"--output={tmp_path}", *shown]) == 0
    lines = capsys.readouterr().err.splitlines()
    size = sum(each.numel() for each in load(tmp_path / LAST).network.parameters())
    for line, words in zip(
        lines[:5],
        (
            ["network: CSTA-CNN", "axes both, place conv1, streams both", f"{size:,} parameters"],
            ["recordings: 64 of generated, 4 classes, 4 subjects"],
            ["protocol: cross-subject; train 16, validation 16 (subjects), test 32"],
            ["training: 1 epochs, batches of 16; 1 × cpu", " threads, attention by "],
            [f"output: {tmp_path}"],
        ),
        strict=True,
    ):
        for each in words:
            assert each in line
        assert len(line) <= 80 or words[0].startswith("output")
    assert lines[5].startswith("epoch 1 of 1: train/loss ")


def test_a_training_that_diverges_fails_and_keeps_no_broken_weights(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["train", f"--data.source={source}", f"--output={tmp_path}", *_SMALL]
    assert main([*arguments, "--training.learning_rate=1e18", "--training.epochs=3"]) == 1
    error = capsys.readouterr().err
    assert "training: diverged in epoch " in error
    assert "Traceback" not in error
    if (tmp_path / LAST).exists():
        assert load(tmp_path / LAST)


def _until(there: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    begin = time.monotonic()
    while not there():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() - begin < 120
        time.sleep(0.02)


def test_interrupted_and_killed_trainings_lose_no_whole_epoch(source: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "csta_fast.cli", "train", f"--output={tmp_path}"]
    begun = [f"--data.source={source}", *_SMALL, "--training.epochs=5000"]

    def start(*arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen([*command, *arguments], stderr=subprocess.PIPE, text=True)

    first = start(*begun)
    _until((tmp_path / LAST).exists, first)
    first.send_signal(signal.SIGINT)
    error = first.communicate(timeout=60)[1]
    assert first.returncode == 130, error
    assert "Traceback" not in error
    assert "GPU available" not in error
    assert f"csta-fast: interrupted; csta-fast train --output {tmp_path} --resume goes on" in error
    interrupted = len(_column(tmp_path, "train/loss"))

    second = start("--resume")
    _until(lambda: len(_column(tmp_path, "train/loss")) > interrupted + 2, second)
    second.kill()
    second.communicate(timeout=60)
    epoch = torch.load(tmp_path / LAST, weights_only=True)["epoch"]
    rows = _column(tmp_path, "epoch")
    assert rows[: int(epoch) + 1] == list(range(epoch + 1))
    assert len(rows) - epoch in (1, 2)  # a row is written before its checkpoint

    assert (
        main(["train", f"--output={tmp_path}", "--resume", f"--training.epochs={epoch + 2}"]) == 0
    )
    assert _column(tmp_path, "epoch") == list(range(epoch + 2))
    assert not list(tmp_path.rglob(".csta-fast-partial.*"))


def test_the_bar_fits_80_columns() -> None:
    figures = {"v_num": "log", "train/loss": 12.345, "train/top1": 0.999, "val/top1": 0.123,
               "val/top5": 0.5}  # fmt: skip
    bar, screen = Bar(), io.StringIO()
    trainer: Any = SimpleNamespace(
        progress_bar_callback=bar, state=SimpleNamespace(fn="fit"), sanity_checking=False,
        training=True, max_epochs=400, loggers=[], progress_bar_metrics=figures,
    )  # fmt: skip
    metrics = MetricsTextColumn(trainer, "", " ", ".3f")
    console = Console(file=screen, width=80, force_terminal=True, color_system=None)
    with CustomProgress(*bar.configure_columns(trainer), metrics, console=console) as progress:
        task = progress.add_task("Epoch 399/399", total=3500)
        bar.train_progress_bar_id = task
        metrics.update(bar.get_metrics(trainer, None))
        progress.update(task, completed=3499)
        progress.refresh()
    shown = [
        line
        for line in re.sub(r"\x1b\[[^a-zA-Z]*[a-zA-Z]|\r", "\n", screen.getvalue()).splitlines()
        if "Epoch" in line
    ]
    assert "loss: 12.345 train: 0.999 val: 0.123" in shown[-1]
    assert "3499/3500" in shown[-1]
    assert "v_num" not in screen.getvalue()
    assert len(shown[-1].rstrip()) <= 80
