"""Training and evaluation of small networks on a few generated actions."""

from __future__ import annotations

import json
import logging
import os
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("lightning", reason="the extra 'train' is not installed")

from trainings import OPTIONS, column, rows, training

from csta_fast.data import LAYOUTS, ClipOptions, Collection, generate
from csta_fast.training import (
    BEST,
    LAST,
    DataOptions,
    Facts,
    ModelOptions,
    Options,
    TrainingOptions,
    evaluate,
    load,
    train,
)
from csta_fast.training.classifier import Classifier
from csta_fast.training.datamodule import held_back

logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def actions() -> Collection:
    return generate(3, 4, 2, frames=(20, 30))


def test_a_training_leaves_what_is_needed_to_go_on(actions: Collection, tmp_path: Path) -> None:
    outcome = train(OPTIONS, tmp_path, collection=actions)
    for name in (BEST, LAST, "options.yaml", "result.json", "confusion.csv", "confusion.png"):
        assert (tmp_path / name).stat().st_size > 0, name
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["top1"] == outcome.figures["top1"]
    assert outcome.confusion.sum() == len(actions.split().test) == result["clips"]
    assert outcome.confusion.trace() / outcome.confusion.sum() == pytest.approx(result["top1"])
    assert outcome.confusion.sum(1).tolist() == [4, 4, 4]
    assert result["top5"] == 1.0  # of three classes
    assert column(tmp_path, "val/top1")[-2:]
    assert len(column(tmp_path, "train/loss")) == 2
    with pytest.raises(FileExistsError, match="holds a training already"):
        train(OPTIONS, tmp_path, collection=actions)


def test_a_line_for_every_epoch_where_there_is_no_terminal(
    actions: Collection, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(training(progress=True), tmp_path, collection=actions)
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("epoch ")]
    assert [line.partition(":")[0] for line in lines] == ["epoch 1 of 2", "epoch 2 of 2"]
    shown = [float(line.partition("train/loss ")[2][:5]) for line in lines]
    assert shown == pytest.approx(column(tmp_path, "train/loss"), abs=1e-3)
    shown = [float(line.partition("val/top1 ")[2][:5]) for line in lines]
    assert shown == pytest.approx(column(tmp_path, "val/top1"), abs=1e-3)


def test_the_same_seed_gives_the_same_training_and_another_one_does_not(
    actions: Collection, tmp_path: Path
) -> None:
    for name, seed in (("one", 4), ("two", 4), ("other", 5)):
        train(training(seed=seed, deterministic=True), tmp_path / name, collection=actions)
    one, two, other = (rows(tmp_path / name) for name in ("one", "two", "other"))
    assert one == two
    assert one != other
    states = [load(tmp_path / name / LAST).network.state_dict() for name in ("one", "two")]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_fused_and_reference_attention_give_the_same_curve(
    actions: Collection, tmp_path: Path
) -> None:
    for backend in ("cpu", "reference"):
        model = replace(OPTIONS.model, backend=backend)
        train(replace(OPTIONS, model=model), tmp_path / backend, collection=actions)
    fused, plain = (column(tmp_path / name, "train/loss") for name in ("cpu", "reference"))
    assert fused == pytest.approx(plain, rel=1e-4)
    assert fused[0] != fused[1]


def test_an_interrupted_training_goes_on_as_if_it_had_not_been(
    actions: Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train(OPTIONS, whole, collection=actions)
    begin = Classifier.on_train_epoch_start

    def interrupted(self: Classifier) -> None:
        if self.current_epoch == 1:
            raise RuntimeError("power cut")
        begin(self)

    with monkeypatch.context() as patch:
        patch.setattr(Classifier, "on_train_epoch_start", interrupted)
        with pytest.raises(RuntimeError, match="power cut"):
            train(OPTIONS, parts, collection=actions)
    outcome = train(OPTIONS, parts, resume=True, collection=actions)
    expected, found = load(whole / LAST).network, load(parts / LAST).network
    for (name, one), other in zip(
        expected.state_dict().items(), found.state_dict().values(), strict=True
    ):
        assert torch.equal(one, other), name
    assert outcome.figures == pytest.approx(
        {name: json.loads((whole / "result.json").read_text())[name] for name in outcome.figures}
    )
    with pytest.raises(FileNotFoundError, match="wanted a training to go on with"):
        train(OPTIONS, tmp_path / "nothing", resume=True, collection=actions)
    left = (parts / "options.yaml").read_text()
    for section, change in (("model", {"hidden": 8}), ("data", {"protocol": "cross-view"})):
        other = replace(OPTIONS, **{section: replace(getattr(OPTIONS, section), **change)})
        (name, value), *_ = change.items()
        with pytest.raises(ValueError, match=rf"{section}.{name}: wanted None, .* got {value!r}"):
            train(other, parts, resume=True, collection=actions)
    assert (parts / "options.yaml").read_text() == left


def test_an_evaluation_finds_what_the_training_found(actions: Collection, tmp_path: Path) -> None:
    outcome = train(OPTIONS, tmp_path / "run", collection=actions)
    again = evaluate(tmp_path / "run" / BEST, tmp_path / "again", collection=actions)
    assert again.figures == pytest.approx(outcome.figures)
    assert (again.confusion == outcome.confusion).all()
    assert (tmp_path / "again" / "confusion.csv").exists()
    others = generate(4, 4, 2, frames=(20, 30))
    with pytest.raises(ValueError, match="wanted recordings of 3 classes of kinect-v2"):
        evaluate(tmp_path / "run" / BEST, collection=others)


@pytest.mark.parametrize(("fit", "frames"), [("resize", 16), ("pad", 32)])
def test_actions_are_learnt(fit: str, frames: int, tmp_path: Path) -> None:
    options = Options(
        DataOptions(validation="none"),
        ClipOptions(frames=frames, fit=fit, crop=(0.8, 1.0)),
        ModelOptions(dropout=0.0),
        TrainingOptions(epochs=25, batch=16, accelerator="cpu", progress=False),
    )
    outcome = train(options, tmp_path, collection=generate(2, 8, 4, frames=(20, 32)))
    assert outcome.checkpoint.name == "last.ckpt"
    assert not (tmp_path / BEST).exists()
    fitted = column(tmp_path, "train/top1")
    assert fitted[-1] > 0.9 > fitted[0]
    assert outcome.figures["top1"] > 0.8, outcome


def test_half_precision_and_tensorboard(actions: Collection, tmp_path: Path) -> None:
    options = training(precision="bf16-mixed", log="tensorboard")
    outcome = train(options, tmp_path, collection=actions)
    assert outcome.figures["loss"] == pytest.approx(1.1, abs=0.3)
    assert any(each.name.startswith("events.") for each in (tmp_path / "log").iterdir())


def test_the_best_epoch_is_that_of_the_best_validation(actions: Collection, tmp_path: Path) -> None:
    train(training(epochs=4), tmp_path, collection=actions)
    top1 = column(tmp_path, "val/top1")
    best = torch.load(tmp_path / BEST, weights_only=True)
    assert best["epoch"] == top1.index(max(top1))


def test_a_batch_that_processes_cannot_share_is_refused(actions: Collection) -> None:
    from csta_fast.training.datamodule import ClipsModule

    module = ClipsModule(actions, training(batch=9), Facts.of(actions, None))
    module.trainer = type("Trainer", (), {"world_size": 2, "global_rank": 0})()
    with pytest.raises(ValueError, match="batch: wanted a multiple of 2 processes, got 9"):
        module.train_dataloader()


def test_subjects_held_back_are_whole_and_every_fold_has_others() -> None:
    recordings = list(generate(2, 7, 1).recordings)
    seen = []
    for fold in range(5):
        train_side, held = held_back(recordings, fold)
        subjects = {each.subject for each in held}
        assert subjects
        assert not subjects & {each.subject for each in train_side}
        assert len(train_side) + len(held) == len(recordings)
        seen += subjects
    assert sorted(seen) == list(range(1, 8))
    with pytest.raises(ValueError, match="validation: 'subjects' wants recordings of at least two"):
        held_back([each for each in recordings if each.subject == 1], 0)


def test_a_file_that_is_no_checkpoint_is_refused_and_runs_no_code(tmp_path: Path) -> None:
    class Malicious:
        def __reduce__(self) -> tuple[Any, ...]:
            return (os.system, (f"touch {tmp_path}/ran",))

    hostile = tmp_path / "hostile.ckpt"
    hostile.write_bytes(pickle.dumps(Malicious()))
    torch.save({"hyper_parameters": Malicious()}, tmp_path / "wrapped.ckpt")
    torch.save({"weights": torch.zeros(1)}, tmp_path / "other.ckpt")
    (tmp_path / "text.ckpt").write_text("no")
    (tmp_path / "letters.ckpt").write_text("abc")
    (tmp_path / "cut.ckpt").write_bytes((tmp_path / "other.ckpt").read_bytes()[:200])
    for name in ("hostile", "wrapped", "other", "text", "letters", "cut"):
        with pytest.raises(ValueError, match="checkpoint: wanted one that csta-fast train wrote"):
            load(tmp_path / f"{name}.ckpt")
    assert not (tmp_path / "ran").exists()
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "missing.ckpt")


def test_options_survive_a_checkpoint_and_wrong_ones_are_named() -> None:
    options = replace(OPTIONS, clips=ClipOptions(crop=(0.3, 0.7)))
    assert Options.from_dict(options.as_dict()) == options
    for wrong, message in (
        (lambda: TrainingOptions(epochs=0), "epochs: wanted 1 to 2147483647, got 0"),
        (lambda: TrainingOptions(precision="8"), "precision: wanted one of 32-true"),
        (lambda: TrainingOptions(threads=0), "threads: wanted 1 to 4096, got 0"),
        (lambda: TrainingOptions(smoothing=1.5), "smoothing: wanted 0 to 1, got 1.5"),
        (lambda: TrainingOptions(seed=-1), "seed: wanted 0 to 4294967295, got -1"),
        (lambda: ModelOptions(dropout=2.0), "dropout: wanted 0 to 1, got 2.0"),
        (lambda: DataOptions(persons=0), "persons: wanted 1 to 64, got 0"),
        (lambda: DataOptions(workers=-1), "workers: wanted 0 to 1024, got -1"),
        (lambda: DataOptions(fold=5), "fold: wanted 0 to 4, got 5"),
        (lambda: DataOptions(validation="all"), "validation: wanted one of subjects, test, none"),
    ):
        with pytest.raises(ValueError, match=message):
            wrong()
    assert LAYOUTS["kinect-v2"].joints


def test_what_cannot_be_trained_on_is_refused_first(actions: Collection, tmp_path: Path) -> None:
    subjects = replace(OPTIONS, data=DataOptions(validation="subjects"))
    few = [each for each in actions.recordings if each.label == 0 or each.subject in (1, 2)]
    for other, options, message in (
        ({"protocols": {"p": lambda each: each.label == 0}}, OPTIONS, "classes .* got 8 of 1 und"),
        ({"recordings": few}, subjects, "at least two classes to train on, got 2 of 1"),
        ({"recordings": []}, OPTIONS, "recordings: wanted at least one"),
        ({"protocols": {"p": lambda _: True}}, OPTIONS, "train on and 0 to test on"),
    ):
        with pytest.raises(ValueError, match=message):
            train(options, tmp_path / "run", collection=replace(actions, **other))
    assert not (tmp_path / "run").exists()


def test_the_attention_learns_faster_and_does_not_decay(actions: Collection) -> None:
    options = training(attention_rate=7.0, learning_rate=0.01, weight_decay=0.3)
    classifier = Classifier(options, Facts.of(actions, None))
    chosen = classifier.configure_optimizers()
    rest, attention = chosen.param_groups
    assert (rest["initial_lr"], rest["weight_decay"]) == (0.01, 0.3)
    assert (attention["initial_lr"], attention["weight_decay"]) == (pytest.approx(0.07), 0)
    heads = {id(each) for each in classifier.network.position.attention.parameters()}
    heads |= {id(each) for each in classifier.network.motion.attention.parameters()}
    assert {id(each) for each in attention["params"]} == heads
    every = [*rest["params"], *attention["params"]]
    assert len(every) == len({id(each) for each in every})
    assert len(every) == len(list(classifier.network.parameters()))
