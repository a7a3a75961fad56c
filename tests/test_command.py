"""The command csta-fast, from recordings to pictures, as a user runs it."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

pytest.importorskip("lightning", reason="the extra 'train' is not installed")

from lightning.pytorch.callbacks.progress.rich_progress import CustomProgress, MetricsTextColumn
from rich.console import Console

from csta_fast.backends import BACKENDS
from csta_fast.command import main
from csta_fast.data import FORMATS, ClipOptions, generate, read
from csta_fast.models import CSTACNN
from csta_fast.training import BEST, LAST, Options, TrainingOptions, load
from csta_fast.training.arguments import names
from csta_fast.training.progress import Bar
from csta_fast.training.reading import read_options

pytestmark = pytest.mark.filterwarnings("ignore")

_SMALL = (
    "--clips.frames=16", "--model.dropout=0", "--training.epochs=1", "--training.batch=16",
    "--training.accelerator=cpu", "--training.progress=false",
)  # fmt: skip
_NAME = "A003S002R001C1"


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """32 recordings to train on and 32 to test on, so that processes share batches evenly."""
    path = tmp_path_factory.mktemp("data") / "actions.npz"
    generate(4, 4, 4, frames=(20, 30)).save(path)
    return path


@pytest.fixture(scope="module")
def run(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained network."""
    folder = tmp_path_factory.mktemp("runs") / "one"
    assert main(["train", f"--data.source={source}", f"--output={folder}", *_SMALL]) == 0
    return folder


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


def test_train_says_how_it_went_and_where_it_is(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (run / BEST).exists()
    assert main(["evaluate", str(run)]) == 0
    text = capsys.readouterr().out
    assert "test: top-1" in text
    assert str(run) in text


def test_other_data_leave_the_run_s_own_result_alone(run: Path, tmp_path: Path) -> None:
    kept = (run / "result.json").read_bytes()
    trained = load(run / BEST).options.data
    other = tmp_path / "other.npz"
    read(trained.source).save(other)
    assert main(["evaluate", str(run), f"--source={other}"]) == 0
    assert (run / "result.json").read_bytes() == kept
    result = json.loads((run / "on-other" / "result.json").read_text())
    assert result["source"] == str(other)
    assert result["protocol"] == json.loads(kept)["protocol"] == "cross-subject"


def test_a_run_leaves_a_configuration_that_gives_the_same_run(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["train", f"--config={run / 'options.yaml'}", f"--output={tmp_path / 'two'}"]
    assert main(arguments) == 0
    file = ["--config", str(run / "options.yaml")]
    assert main(["train", "--training.seed=1", *file, f"--output={tmp_path / 'three'}"]) == 0
    states = [load(each / LAST).network.state_dict() for each in (run, *sorted(tmp_path.iterdir()))]
    one, three, two = (state["fc8.weight"] for state in states)
    assert torch.equal(one, two)
    assert not torch.equal(one, three)


def test_resume_goes_on_with_the_options_of_the_run(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = f"--output={tmp_path}"
    begun = [f"--data.source={source}", "--model.axes=joints", *_SMALL]
    assert main(["train", folder, *begun]) == 0
    assert main(["train", folder, "--resume", "--training.epochs=2"]) == 0
    trained = load(tmp_path / LAST)
    assert (trained.options.model.axes, trained.options.training.epochs) == ("joints", 2)
    assert len(_column(tmp_path, "train/loss")) == 2
    assert main(["train", folder, "--resume", "--model.axes=both"]) == 2
    assert "model.axes: wanted 'joints', as the training" in capsys.readouterr().err


def test_pictures_of_every_class_and_of_one_recording(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plot", str(run), f"--output={tmp_path}"]) == 0
    arguments = ["plot", str(run / BEST), f"--output={tmp_path}", f"--recording={_NAME}", "--clip"]
    assert main(arguments) == 0
    names = [Path(line).name for line in capsys.readouterr().out.split()]
    assert names == [
        "attention-classes.png", f"attention-{_NAME}.png", f"attention-{_NAME}.gif",
    ]  # fmt: skip
    for name in names:
        assert (tmp_path / name).stat().st_size > 5000


def test_convert_keeps_recordings_and_protocols(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "copy.npz"
    assert main(["convert", str(source), str(copy)]) == 0
    assert "64 recordings of generated" in capsys.readouterr().out
    assert [len(side) for side in read(copy).split("cross-subject")] == [32, 32]


@pytest.mark.parametrize(("name", "message"), [("no/copy.npz", "folder"), ("copy.txt", ".npz")])
def test_convert_does_not_read_what_it_could_not_write(
    name: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("csta_fast.data.read", None)
    assert main(["convert", str(tmp_path), str(tmp_path / name)]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert name in error


def test_examples_of_the_help_have_lines_of_their_own(capsys: pytest.CaptureFixture[str]) -> None:
    for command, example in (([], "csta-fast plot runs/"), (["train"], "csta-fast train --config")):
        with pytest.raises(SystemExit):
            main([*command, "--help"])
        assert f"\n  {example}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data.source=/nowhere"], "/nowhere"),
        (["--data.protocol=mine"], "protocol: generated has cross-subject, cross-view, got 'mine'"),
        (["--training.epochs=0"], "epochs: wanted at least 1, got 0"),
        (["--training.batch=0"], "batch: wanted at least 1, got 0"),
        (["--training.accelerator=abacus"], "wanted what this machine has, got 'abacus'"),
        (["--training.devices=0"], "wanted what this machine has, got 'cpu' and 0"),
        (["--clips.frames=8"], "frames: wanted at least 16, got 8"),
        (["--model.groups=7"], "groups: wanted a divisor of the 64 channels, got 7"),
    ],
)
def test_wrong_input_is_one_line_and_status_2(
    arguments: list[str], message: str, source: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    chosen = [f"--data.source={source}", *_SMALL, *arguments, f"--output={tmp_path / 'run'}"]
    assert main(["train", *chosen]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("csta-fast: ")
    assert message in error
    assert not (tmp_path / "run" / LAST).exists()


def test_what_a_run_cannot_be_used_for(
    run: Path, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other.npz"
    generate(5, 4, 1).save(other)
    plain = tmp_path / "plain"
    arguments = ["train", f"--data.source={source}", f"--output={plain}", *_SMALL]
    assert main([*arguments, "--model.axes=none"]) == 0
    for command, message in (
        (["evaluate", str(tmp_path / "no")], "wanted a folder of csta-fast train or a checkpoint"),
        (["evaluate", str(run), f"--source={other}"], "wanted recordings of 4 classes of kinect"),
        (["plot", str(run), "--recording=me"], "recording: wanted one of the 32 that test"),
        (["plot", str(run), "--clip"], "clip: wanted a recording to show, got none"),
        (["plot", str(plain)], "wanted a network with attention, got HCN"),
        (["train", *arguments[1:]], "holds a training already"),
    ):
        assert main(command) == 2, command
        assert message in capsys.readouterr().err


def _column(output: Path, name: str) -> list[float]:
    with (output / "log" / "metrics.csv").open() as file:
        return [float(row[name]) for row in csv.DictReader(file) if row.get(name)]


@pytest.mark.usefixtures("native")
def test_two_processes_train_as_one_does(source: Path, tmp_path: Path) -> None:
    folders = {count: tmp_path / str(count) for count in (1, 2)}
    for count, folder in folders.items():
        command = [
            sys.executable, "-m", "csta_fast.command", "train", f"--data.source={source}",
            f"--output={folder}", "--data.validation=test", f"--training.devices={count}",
            "--training.threads=1", "--training.epochs=2", *_SMALL,
        ]  # fmt: skip
        command.remove("--training.epochs=1")
        environment = os.environ | {"CSTA_FAST_BACKEND": "cpu"}
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stderr[-3000:]
    for name in ("train/loss", "val/loss", "val/top1"):
        one, two = (_column(folder, name) for folder in folders.values())
        assert len(one) == 2
        assert one == pytest.approx(two, rel=1e-4), name
    results = [json.loads((folder / "result.json").read_text()) for folder in folders.values()]
    for name in ("loss", "top1"):
        assert results[0][name] == pytest.approx(results[1][name], rel=1e-4)
    one, two = (load(folder / LAST).network.state_dict() for folder in folders.values())
    torch.manual_seed(0)
    fresh = CSTACNN(4, frames=16, dropout=0.0).state_dict()
    for name in one:
        if name.endswith("head.b2"):  # softmax cancels it: its gradient is rounding
            continue
        moved = (one[name] - fresh[name]).abs().mean()
        # Adam makes steps of the same length from the smallest gradients, rounding included.
        assert (one[name] - two[name]).abs().mean() <= 0.02 * moved, name
    assert (one["fc8.weight"] - fresh["fc8.weight"]).abs().mean() > 1e-4


_WITHOUT = """
import sys
for name in ("lightning", "torchmetrics", "yaml", "matplotlib", "rich"):
    sys.modules[name] = None
from csta_fast.command import main
try:
    status = main(sys.argv[1:])
except SystemExit as end:
    status = end.code
sys.exit(status)
"""


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["--help"], 0, "csta-fast train"),
        (["--version"], 0, "csta-fast "),
        (["convert", "--help"], 0, "read again in seconds"),
        (["train"], 1, "pip install 'csta_fast[train]' (import of lightning"),
        (["evaluate", "runs/one"], 1, "pip install 'csta_fast[train]'"),
    ],
)
def test_without_the_extra_there_is_help_and_what_to_install(
    arguments: list[str], status: int, words: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _WITHOUT, *arguments], capture_output=True, text=True
    )
    assert done.returncode == status, done.stderr
    assert words in (done.stdout if status == 0 else done.stderr)


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
            ["network: CSTA-CNN", "both streams", "backend ", f"{size:,} parameters"],
            ["recordings: 64 of generated, 4 classes, 4 subjects"],
            ["protocol: cross-subject; train 16, validation 16 (subjects), test 32"],
            ["training: 1 epochs, batches of 16, 1 × cpu", " threads"],
            [f"output: {tmp_path}"],
        ),
        strict=True,
    ):
        for each in words:
            assert each in line
    assert lines[5].startswith("epoch 1 of 1: train/loss ")


def test_a_training_that_diverges_fails_and_keeps_no_broken_weights(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["train", f"--data.source={source}", f"--output={tmp_path}", *_SMALL]
    assert main([*arguments, "--training.learning_rate=1e30", "--training.epochs=3"]) == 1
    error = capsys.readouterr().err
    assert "training: diverged in epoch " in error
    assert "Traceback" not in error
    if (tmp_path / LAST).exists():
        assert load(tmp_path / LAST)


def test_a_link_in_a_run_is_not_written_through_by_pictures(run: Path, tmp_path: Path) -> None:
    folder, victim = tmp_path / "pictures", tmp_path / "victim.png"
    folder.mkdir()
    victim.write_text("mine")
    (folder / "attention-classes.png").symlink_to(victim)
    assert main(["plot", str(run), f"--output={folder}"]) == 0
    assert victim.read_text() == "mine"
    assert (folder / "attention-classes.png").stat().st_size > 5000


def _until(there: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    begin = time.monotonic()
    while not there():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() - begin < 120
        time.sleep(0.02)


def test_interrupted_and_killed_trainings_lose_no_whole_epoch(source: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "csta_fast.command", "train", f"--output={tmp_path}"]
    begun = [f"--data.source={source}", *_SMALL, "--training.epochs=5000"]

    def start(*arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen([*command, *arguments], stderr=subprocess.PIPE, text=True)

    first = start(*begun)
    _until((tmp_path / LAST).exists, first)
    first.send_signal(signal.SIGINT)
    error = first.communicate(timeout=60)[1]
    assert first.returncode == 130, error
    assert "Traceback" not in error
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
    assert not list(tmp_path.rglob(".partial.*"))


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
