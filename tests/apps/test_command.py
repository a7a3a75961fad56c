"""The command csta-fast, from recordings to pictures, as a user runs it."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip("lightning", reason="the extra 'train' is not installed")


from csta_fast.cli import main
from csta_fast.data import generate, read
from csta_fast.models import CSTACNN
from csta_fast.training import BEST, LAST, load

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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data.source=/nowhere"], "/nowhere"),
        (["--data.protocol=mine"], "protocol: generated has cross-subject, cross-view, got 'mine'"),
        (["--training.epochs=0"], "--training.epochs: wanted 1 to 2147483647, got 0"),
        (["--training.batch=0"], "--training.batch: wanted 1 to 2147483647, got 0"),
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
        arguments = [
            "train", f"--data.source={source}", *_SMALL, f"--output={folder}",
            "--data.validation=test", f"--training.devices={count}", "--training.epochs=2",
            "--model.backend=cpu",
        ]  # fmt: skip
        if count == 1:
            assert main(arguments) == 0
            continue
        command = [sys.executable, "-m", "csta_fast.cli", *arguments, "--training.threads=1"]
        done = subprocess.run(command, capture_output=True, text=True)
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


def test_a_link_in_a_run_is_not_written_through_by_pictures(run: Path, tmp_path: Path) -> None:
    folder, victim = tmp_path / "pictures", tmp_path / "victim.png"
    folder.mkdir()
    victim.write_text("mine")
    (folder / "attention-classes.png").symlink_to(victim)
    assert main(["plot", str(run), f"--output={folder}"]) == 0
    assert victim.read_text() == "mine"
    assert (folder / "attention-classes.png").stat().st_size > 5000
