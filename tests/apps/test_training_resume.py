"""Going on with trainings: with other options, other recordings, damaged or hostile checkpoints."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch

pytest.importorskip("lightning", reason="the extra 'train' is not installed")

from trainings import OPTIONS, content, rows, training

from csta_fast.data import Collection, generate
from csta_fast.training import (
    BEST,
    LAST,
    Options,
    load,
    train,
)
from csta_fast.training.classifier import Classifier

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.mark.parametrize("moved", [False, True])
def test_a_run_keeps_its_best_epoch_wherever_it_lies(
    moved: bool, run: Path, actions: Collection, tmp_path: Path
) -> None:
    best = content(run / BEST)
    best["top1"] = 1.5  # better than any epoch to come
    torch.save(best, run / BEST)
    kept = (run / BEST).read_bytes()
    if moved:
        run = run.rename(tmp_path / "elsewhere")
    train(training(epochs=4), run, resume=True, collection=actions)
    assert (run / BEST).read_bytes() == kept
    assert content(run / LAST)["epoch"] == 3


def test_a_damaged_last_checkpoint_is_passed_over_and_its_epoch_trained_again(
    run: Path, actions: Collection, tmp_path: Path
) -> None:
    whole, first = tmp_path / "whole", tmp_path / "first"
    train(training(epochs=3), whole, collection=actions)
    train(training(epochs=3), first, collection=actions)
    damaged, best = (first / LAST).read_bytes(), content(first / BEST)["epoch"]
    (first / LAST).write_bytes(damaged[: len(damaged) // 2])
    with pytest.warns(UserWarning, match=rf"going on from epoch {best + 1}: .*last.ckpt.* damaged"):
        train(training(epochs=3), first, resume=True, collection=actions)
    one, other = (load(each / LAST).network.state_dict() for each in (whole, first))
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert [int(row["epoch"]) for row in rows(first)] == [0, 1, 2]
    assert [row["train/loss"] for row in rows(first)] == [row["train/loss"] for row in rows(whole)]


def test_without_a_whole_checkpoint_there_is_nothing_to_go_on_from(
    run: Path, actions: Collection
) -> None:
    for name in (LAST, BEST):
        (run / name).write_bytes(b"PK\3\4 torn")
    with pytest.raises(ValueError, match=r"got .*last.ckpt: it is damaged, or no checkpoint"):
        train(training(epochs=3), run, resume=True, collection=actions)


def test_a_damaged_best_checkpoint_is_told_and_replaced(run: Path, actions: Collection) -> None:
    (run / BEST).write_bytes(b"")
    with pytest.warns(UserWarning, match=r"going on from epoch 2: .*best.ckpt"):
        outcome = train(training(epochs=3), run, resume=True, collection=actions)
    assert content(run / BEST)["epoch"] == 2
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
    found = _rates(monkeypatch, training(epochs=4), run, actions)
    wanted = [1e-3 / 2, 1e-3 * (1 - 2**-0.5) / 2]  # a cosine at 2/4 and 3/4 of its way down
    assert [rate for rate, _, _ in found] == pytest.approx(wanted)
    assert [rate for _, rate, _ in found] == pytest.approx([10 * rate for rate in wanted])


def test_options_of_the_training_that_change_are_applied(
    run: Path, actions: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = training(
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
        part = replace(getattr(OPTIONS, section), **{name: value})
        with pytest.raises(ValueError, match=rf"^{section}\.{name}: wanted .*, got {value!r}$"):
            train(replace(OPTIONS, **{section: part}), run, resume=True, collection=actions)
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
            train(training(epochs=3), run, resume=True, collection=other)


def test_unfinished_files_of_a_killed_training_are_removed_and_no_others(
    run: Path, actions: Collection
) -> None:
    for name in (
        "checkpoints/.csta-fast-partial.best.ckpt",
        ".csta-fast-partial.result.json",
        "log/.csta-fast-partial.x",
    ):
        (run / name).write_text("unfinished")
    for name in ("checkpoints/mine.ckpt", "notes.partial.txt", ".hidden"):
        (run / name).write_text("mine")
    train(training(epochs=3), run, resume=True, collection=actions)
    left = {str(each.relative_to(run)) for each in run.rglob("*") if each.is_file()}
    assert not any(".csta-fast-partial." in name for name in left)
    assert {"checkpoints/mine.ckpt", "notes.partial.txt", ".hidden"} <= left
