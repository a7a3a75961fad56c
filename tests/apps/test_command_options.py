"""The arguments of csta-fast: their help, their files, and what is wrong with them."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("lightning", reason="the extra 'train' is not installed")


from csta_fast.backends import BACKENDS
from csta_fast.cli import main
from csta_fast.data import FORMATS, ClipOptions
from csta_fast.training import Options, TrainingOptions
from csta_fast.training.arguments import names
from csta_fast.training.reading import read_options

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.mark.parametrize(
    ("command", "taught"),
    [
        ([], ["csta-fast train", "csta-fast evaluate", "csta-fast plot", "csta-fast convert"]),
        (
            ["train"],
            ["examples:", "a folder or file with", "whose features are", "YAML"],
        ),
        (["evaluate"], ["Accuracy (top-1, top-5)", "a folder of csta-fast train"]),
        (["plot"], ["the mean of every class", "animated clip"]),
        (["convert"], ["read again in seconds", "kind of data set"]),
    ],
)
def test_help_teaches(
    command: list[str], taught: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main([*command, "--help"])
    assert stop.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    for words in taught:
        assert words in text


def test_examples_of_the_help_have_lines_of_their_own(capsys: pytest.CaptureFixture[str]) -> None:
    for command, example in (([], "csta-fast plot runs/"), (["train"], "csta-fast train --config")):
        with pytest.raises(SystemExit):
            main([*command, "--help"])
        assert f"\n  {example}" in capsys.readouterr().out


_WITHOUT = """
import sys
for name in ("lightning", "torchmetrics", "yaml", "matplotlib", "rich"):
    sys.modules[name] = None
from csta_fast.cli import main
for arguments in (["--help"], ["--version"], ["convert", "--help"], ["train"], ["evaluate", "run"]):
    try:
        status = main(arguments)
    except SystemExit as end:
        status = end.code
    print("status", status)
"""


def test_without_the_extra_there_is_help_and_what_to_install() -> None:
    done = subprocess.run([sys.executable, "-c", _WITHOUT], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    shown = re.split(r"status (\d)\n", done.stdout)
    assert shown[1::2] == ["0", "0", "0", "1", "1"]
    for text, words in zip(
        shown[::2], ("csta-fast train", "csta-fast 0.", "read again in seconds"), strict=False
    ):
        assert words in text
    assert done.stderr.count("pip install 'csta_fast[train]' (import of ") == 2


def test_help_names_the_values(capsys: pytest.CaptureFixture[str]) -> None:
    for command, values in (
        ("train", [*FORMATS, *BACKENDS, "cross-subject", "cross-view", "cross-setup"]),
        ("evaluate", [*FORMATS, "cross-subject"]),
        ("plot", [*FORMATS]),
        ("convert", [*FORMATS]),
    ):
        with pytest.raises(SystemExit):
            main([command, "--help"])
        text = capsys.readouterr().out
        words = " ".join(text.split())
        for value in values:
            assert value in words, (command, value)
        assert "<class" not in text


def test_every_option_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    text = capsys.readouterr().out
    for name in names().values():
        explanation = text.partition(f"  {name} ")[2].split("  --")[0]
        assert len(explanation.split()) > 3, name


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--trainig.epochs=1"], "did you mean --training.epochs?"),
        (["train", "--training.epochs=many"], "--training.epochs: wanted a whole number, got 'man"),
        (["train", "--training.epochs"], "--training.epochs: expected one argument"),
        (["train", "--clips.crop=1"], "--clips.crop: wanted a number,a number, got '1'"),
        (["train", "--model.axes=all"], "--model.axes: wanted one of both, joints, frames, none,"),
        (["train", "--model.backend=abacus"], "--model.backend: wanted one of cpu, cuda, triton"),
        (
            ["train", "--training.learning_rate=nan"],
            "--training.learning_rate: wanted float, got n",
        ),
        (
            ["train", "--data.kind=none-such", "--data.source=/tmp"],
            "--data.kind: wanted one of ntu",
        ),
        (["train", "--config=/nowhere.yaml"], "/nowhere.yaml"),
        (["train", "--data.source="], "--data.source: wanted a value, got ''"),
        (["evaluate", "run", "--output", ""], "--output: wanted a value, got ''"),
        (["convert", "", "x.npz"], "csta-fast convert: wanted a value, got ''"),
        (["convert", "/nowhere", "x.npz"], "source: wanted a folder or a file, got /nowhere"),
        (["convert", "/nowhere", "x.txt"], "output: wanted a name that ends in .npz, got x.txt"),
        (["convert", "\x1b[2J\n", "x.npz"], r"got \x1b[2J\n: not there"),
        (["train", "--training.weight_decay=1e300"], "--training.weight_decay: wanted 0 to 1e+19"),
        (["evaluate"], "the following arguments are required: run"),
        (["paint"], "command: wanted one of train, evaluate, plot, convert, got paint"),
        ([], "command: wanted one of train, evaluate, plot, convert, got none"),
    ],
)
def test_a_wrong_option_is_one_line_that_names_it_as_typed(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert message in lines[0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1, 2]", "--config: wanted options of csta-fast train in "),
        ("data: /etc/passwd", "got 'data': '/etc/passwd'"),
        ("resume: true", "got 'resume': True"),
        ("training: {epoch: 1}", "got training.epoch"),
        ("training: {epochs: [1]}", "--training.epochs: wanted int, got [1]"),
        ("training: {epochs: x}", "--training.epochs: wanted a whole number, got 'x' in "),
        ("a: &a [x, x]\nb: [*a, *a]", "--config: wanted plain options, got an alias"),
    ],
)
def test_odd_files_of_options_are_one_line(
    text: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "odd.yaml").write_text(text)
    assert main(["train", f"--config={tmp_path / 'odd.yaml'}"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert message in lines[0]


def test_files_of_options_are_read_as_people_write_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.yaml").write_text("training: {learning_rate: 1e-2, devices: 2}\n")
    more = ["--clips.crop=[0.3, 0.9]", "--data.persons=null", "--print_config"]
    assert main(["train", "--training.seed=3", f"--config={tmp_path / 'mine.yaml'}", *more]) == 0
    printed = tmp_path / "printed.yaml"
    printed.write_text(capsys.readouterr().out)
    options = Options.from_dict(read_options(printed))
    assert (options.training.learning_rate, options.training.devices) == (0.01, 2)
    assert (options.training.seed, options.clips.crop) == (3, (0.3, 0.9))
    assert options == replace(
        Options(),
        clips=ClipOptions(crop=(0.3, 0.9)),
        training=TrainingOptions(learning_rate=0.01, devices=2, seed=3),
    )


def test_no_memory_left_is_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    large = np.lib.stride_tricks.as_strided(np.zeros(1), (2**47,), (0,))
    for act in (
        lambda *unused: large.copy(),
        lambda *unused: torch.empty(2**47),
        lambda *unused: bytearray(2**47),
    ):
        monkeypatch.setattr("csta_fast.data.read", act)
        assert main(["convert", str(tmp_path), str(tmp_path / "x.npz")]) == 1
        assert capsys.readouterr().err == "csta-fast: out of memory\n"
