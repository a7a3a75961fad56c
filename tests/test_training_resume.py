"""Going on with trainings: with other options, other recordings, damaged or hostile checkpoints."""

from __future__ import annotations

import copy
import csv
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("lightning", reason="the extra 'train' is not installed")

from csta_fast.data import ClipOptions, Collection, generate
from csta_fast.training import (
    BEST,
    LAST,
    DataOptions,
    ModelOptions,
    Options,
    TrainingOptions,
    load,
    train,
)
from csta_fast.training.classifier import Classifier

pytestmark = pytest.mark.filterwarnings("ignore")

_OPTIONS = Options(
    DataOptions(validation="test"),
    ClipOptions(frames=16),
    ModelOptions(dropout=0.2),
    TrainingOptions(epochs=2, batch=8, accelerator="cpu", progress=False),
)


@pytest.fixture(scope="module")
def actions() -> Collection:
    return generate(3, 4, 2, frames=(20, 30))


@pytest.fixture(scope="module")
def finished(actions: Collection, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two epochs."""
    output = tmp_path_factory.mktemp("runs") / "finished"
    train(_OPTIONS, output, collection=actions)
    return output


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A copy of it, to be changed."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


def _training(**changes: Any) -> Options:
    return replace(_OPTIONS, training=replace(_OPTIONS.training, **changes))


def _read(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = torch.load(path, weights_only=True)
    return found


def _rows(output: Path) -> list[dict[str, str]]:
    with (output / "log" / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def test_no_path_in_a_checkpoint_is_followed(
    run: Path, actions: Collection, tmp_path: Path
) -> None:
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "precious.ckpt").write_text("mine")
    hostile = f"{run}/checkpoints/../../victim"
    state = {
        "monitor": "val/top1",
        "best_model_score": torch.tensor(-1.0),
        "best_model_path": hostile,
        "last_model_path": hostile,
        "best_k_models": {hostile: torch.tensor(-1.0)},
        "kth_best_model_path": hostile,
        "kth_value": torch.tensor(-1.0),
        "dirpath": str(run / "checkpoints"),
    }
    # As Lightning's own callback names what it restores.
    options = "'mode': 'max', 'every_n_train_steps': 0, 'every_n_epochs': 1"
    keys = [
        f"ModelCheckpoint{{'monitor': {monitor}, {options}, 'train_time_interval': None}}"
        for monitor in ("'val/top1'", None)
    ]
    content = _read(run / LAST)
    content["callbacks"] = dict.fromkeys([*keys, "Keeper"], state)
    torch.save(content, run / LAST)
    train(_training(epochs=4), run, resume=True, collection=actions)
    assert (victim / "precious.ckpt").read_text() == "mine"
    assert [each.name for each in victim.iterdir()] == ["precious.ckpt"]
    assert "callbacks" not in _read(run / LAST)


def test_links_in_a_run_are_replaced_and_never_written_through(
    run: Path, actions: Collection, tmp_path: Path
) -> None:
    victims = []
    for name in (LAST, "options.yaml", "result.json", "confusion.csv", "confusion.png",
                 "checkpoints/.partial.last.ckpt", ".partial.options.yaml"):  # fmt: skip
        victims.append(tmp_path / name.replace("/", "-"))
        if (run / name).exists():
            (run / name).rename(victims[-1])
        else:
            victims[-1].write_text("mine")
        (run / name).symlink_to(victims[-1])
    before = [victim.read_bytes() for victim in victims]
    train(_training(epochs=3), run, resume=True, collection=actions)
    assert [victim.read_bytes() for victim in victims] == before
    assert not any(each.is_symlink() for each in run.rglob("*"))


@pytest.mark.parametrize("name", ["checkpoints", "log", "log/metrics.csv"])
def test_links_that_would_be_followed_are_refused(
    name: str, run: Path, actions: Collection, tmp_path: Path
) -> None:
    (run / name).rename(tmp_path / "elsewhere")
    (run / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match=r"got a link|wanted the figures of every epoch"):
        train(_training(epochs=3), run, resume=True, collection=actions)


def _wrong_moment(content: dict[str, Any]) -> None:
    content["optimizer_states"][0]["state"][0]["exp_avg"] = torch.zeros(10**6)


def _few_numbers(content: dict[str, Any]) -> None:
    states = content["optimizer_states"][0]["state"]
    states[0]["exp_avg"] = torch.zeros(1).expand(states[0]["exp_avg"].shape)


def _negative(content: dict[str, Any]) -> None:
    content["optimizer_states"][0]["state"][0]["exp_avg_sq"].fill_(-1)


def _other_key(content: dict[str, Any]) -> None:
    content["optimizer_states"][0]["state"]["load_state_dict"] = {}


def _setter(name: str, value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda content: content.__setitem__(name, value)


_HOSTILE = {
    "epoch: wanted a count": _setter("epoch", -3),
    "epoch: wanted a count, got str": _setter("epoch", "1"),
    "global_step: wanted a count": _setter("global_step", 2.5),
    "top1: wanted a finite number": _setter("top1", float("nan")),
    "recordings: wanted a fingerprint": _setter("recordings", None),
    "scaler: wanted two numbers": _setter("scaler", {"scale": 1.0}),
    "scaler: wanted a scale above 0": _setter("scaler", [-1.0, 0]),
    "optimizer_states: wanted that of one": _setter("optimizer_states", []),
    r"optimizer_states.0.exp_avg: wanted .*, got \(1000000,\)": _wrong_moment,
    "optimizer_states.0.exp_avg: wanted .* numbers, got fewer": _few_numbers,
    "optimizer_states.0: wanted a step and squares of at least 0": _negative,
    "optimizer_states: wanted the numbers of parameters|for every parameter": _other_key,
}


@pytest.mark.parametrize("message", _HOSTILE)
def test_a_state_that_no_training_wrote_is_refused(
    message: str, run: Path, actions: Collection
) -> None:
    content = _read(run / LAST)
    _HOSTILE[message](content)
    for name in (LAST, BEST):
        torch.save(content, run / name)
    with pytest.raises(ValueError, match=f"checkpoint: wanted one to go on from, got .*{message}"):
        train(_training(epochs=3), run, resume=True, collection=actions)


@pytest.mark.parametrize("moved", [False, True])
def test_a_run_keeps_its_best_epoch_wherever_it_lies(
    moved: bool, run: Path, actions: Collection, tmp_path: Path
) -> None:
    best = _read(run / BEST)
    best["top1"] = 1.5  # better than any epoch to come
    torch.save(best, run / BEST)
    kept = (run / BEST).read_bytes()
    if moved:
        run = run.rename(tmp_path / "elsewhere")
    train(_training(epochs=4), run, resume=True, collection=actions)
    assert (run / BEST).read_bytes() == kept
    assert _read(run / LAST)["epoch"] == 3


def test_a_damaged_last_checkpoint_is_passed_over_and_its_epoch_trained_again(
    run: Path, actions: Collection, tmp_path: Path
) -> None:
    whole, first = tmp_path / "whole", tmp_path / "first"
    train(_training(epochs=3), whole, collection=actions)
    train(_training(epochs=3), first, collection=actions)
    damaged, best = (first / LAST).read_bytes(), _read(first / BEST)["epoch"]
    (first / LAST).write_bytes(damaged[: len(damaged) // 2])
    with pytest.warns(UserWarning, match=rf"going on from epoch {best + 1}: .*last.ckpt.* damaged"):
        train(_training(epochs=3), first, resume=True, collection=actions)
    one, other = (load(each / LAST).network.state_dict() for each in (whole, first))
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert [int(row["epoch"]) for row in _rows(first)] == [0, 1, 2]
    assert [row["train/loss"] for row in _rows(first)] == [
        row["train/loss"] for row in _rows(whole)
    ]


def test_without_a_whole_checkpoint_there_is_nothing_to_go_on_from(
    run: Path, actions: Collection
) -> None:
    for name in (LAST, BEST):
        (run / name).write_bytes(b"PK\3\4 torn")
    with pytest.raises(ValueError, match=r"got .*last.ckpt: it is damaged, or no checkpoint"):
        train(_training(epochs=3), run, resume=True, collection=actions)


def test_a_damaged_best_checkpoint_is_told_and_replaced(run: Path, actions: Collection) -> None:
    (run / BEST).write_bytes(b"")
    with pytest.warns(UserWarning, match=r"going on from epoch 2: .*best.ckpt"):
        outcome = train(_training(epochs=3), run, resume=True, collection=actions)
    assert _read(run / BEST)["epoch"] == 2
    assert outcome.checkpoint == run / BEST


def _rates(
    monkeypatch: pytest.MonkeyPatch, options: Options, output: Path, actions: Collection
) -> list[tuple[float, float]]:
    """The learning rate of both groups and the decay of the first, in every epoch."""
    found = []
    begin = Classifier.on_train_epoch_start

    def noted(self: Classifier) -> None:
        begin(self)
        rest, attention = self.trainer.optimizers[0].param_groups
        found.append((rest["lr"], attention["lr"], rest["weight_decay"]))

    monkeypatch.setattr(Classifier, "on_train_epoch_start", noted)
    train(options, output, resume=True, collection=actions)
    return found


def test_a_longer_training_goes_on_with_the_schedule_of_its_new_length(
    run: Path, actions: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = _rates(monkeypatch, _training(epochs=4), run, actions)
    wanted = [1e-3 / 2, 1e-3 * (1 - 2**-0.5) / 2]  # a cosine at 2/4 and 3/4 of its way down
    assert [rate for rate, _, _ in found] == pytest.approx(wanted)
    assert [rate for _, rate, _ in found] == pytest.approx([10 * rate for rate in wanted])


def test_options_of_the_training_that_change_are_applied(
    run: Path, actions: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = _training(
        epochs=3, learning_rate=0.5, attention_rate=2.0, weight_decay=0.25, schedule="constant"
    )
    assert _rates(monkeypatch, changed, run, actions) == [(0.5, 1.0, 0.25)]
    assert load(run / LAST).options == changed
    assert "learning_rate: 0.5" in (run / "options.yaml").read_text()


def test_options_that_would_make_another_training_are_refused_by_name(
    run: Path, actions: Collection
) -> None:
    before = (run / "options.yaml").read_text()
    for section, name, value in (
        ("training", "seed", 3),
        ("training", "epochs", 1),
        ("data", "fold", 2),
        ("data", "validation", "none"),
        ("clips", "frames", 32),
        ("model", "axes", "joints"),
    ):
        part = replace(getattr(_OPTIONS, section), **{name: value})
        with pytest.raises(ValueError, match=rf"^{section}\.{name}: wanted .*, got {value!r}$"):
            train(replace(_OPTIONS, **{section: part}), run, resume=True, collection=actions)
    assert (run / "options.yaml").read_text() == before


def test_other_recordings_are_refused(run: Path, actions: Collection) -> None:
    first, second, *rest = actions.classes
    recordings = list(actions.recordings)
    moved = copy.copy(recordings[0].positions)
    moved[0, 0, 0, 0] += 1
    for other, message in (
        (replace(actions, classes=(second, first, *rest)), f"wanted '{first}' as class 0, got '"),
        (replace(actions, classes=(*actions.classes, "more")), "wanted recordings of 3 classes"),
        (replace(actions, recordings=recordings[:-1]), "wanted the recordings that the training"),
        (
            replace(actions, recordings=[replace(recordings[0], positions=moved), *recordings[1:]]),
            "wanted the recordings that the training",
        ),
        (generate(3, 4, 2, frames=(20, 30), seed=7), "wanted the recordings that the training"),
    ):
        with pytest.raises(ValueError, match=message):
            train(_training(epochs=3), run, resume=True, collection=other)


def test_unfinished_files_of_a_killed_training_are_removed_and_no_others(
    run: Path, actions: Collection
) -> None:
    for name in ("checkpoints/.partial.best.ckpt", ".partial.result.json", "log/.partial.x"):
        (run / name).write_text("unfinished")
    for name in ("checkpoints/mine.ckpt", "notes.partial.txt", ".hidden"):
        (run / name).write_text("mine")
    train(_training(epochs=3), run, resume=True, collection=actions)
    left = {str(each.relative_to(run)) for each in run.rglob("*") if each.is_file()}
    assert not any(".partial." in os.path.basename(name)[:9] for name in left)
    assert {"checkpoints/mine.ckpt", "notes.partial.txt", ".hidden"} <= left
