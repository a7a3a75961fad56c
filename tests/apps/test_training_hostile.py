"""Runs of strangers: no path in them is followed, and no state is taken on trust."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("lightning", reason="the extra 'train' is not installed")

from trainings import content, training

from csta_fast.data import Collection
from csta_fast.training import BEST, LAST, Options, evaluate, train
from csta_fast.training import run as runs

pytestmark = pytest.mark.filterwarnings("ignore")


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
    found = content(run / LAST)
    found["callbacks"] = dict.fromkeys([*keys, "Keeper"], state)
    torch.save(found, run / LAST)
    train(training(epochs=4), run, resume=True, collection=actions)
    assert (victim / "precious.ckpt").read_text() == "mine"
    assert [each.name for each in victim.iterdir()] == ["precious.ckpt"]
    assert "callbacks" not in content(run / LAST)


def test_links_in_a_run_are_replaced_and_never_written_through(
    run: Path, actions: Collection, tmp_path: Path
) -> None:
    victims = []
    for name in (LAST, "options.yaml", "result.json", "confusion.csv", "confusion.png",
                 "checkpoints/.csta-fast-partial.last.ckpt",
                 ".csta-fast-partial.options.yaml"):  # fmt: skip
        victims.append(tmp_path / name.replace("/", "-"))
        if (run / name).exists():
            (run / name).rename(victims[-1])
        else:
            victims[-1].write_text("mine")
        (run / name).symlink_to(victims[-1])
    before = [victim.read_bytes() for victim in victims]
    train(training(epochs=3), run, resume=True, collection=actions)
    assert [victim.read_bytes() for victim in victims] == before
    assert not any(each.is_symlink() for each in run.rglob("*"))


@pytest.mark.parametrize("name", ["checkpoints", "log", "log/metrics.csv"])
def test_links_that_would_be_followed_are_refused(
    name: str, run: Path, actions: Collection, tmp_path: Path
) -> None:
    (run / name).rename(tmp_path / "elsewhere")
    (run / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match=r"got a link|wanted the figures of every epoch"):
        train(training(epochs=3), run, resume=True, collection=actions)


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
    found = content(run / LAST)
    _HOSTILE[message](found)
    for name in (LAST, BEST):
        torch.save(found, run / name)
    with pytest.raises(ValueError, match=f"checkpoint: wanted one to go on from, got .*{message}"):
        train(training(epochs=3), run, resume=True, collection=actions)


def test_an_evaluation_is_of_this_machine_and_its_loss_a_number(
    run: Path, actions: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = content(run / BEST)
    options = found["hyper_parameters"]["options"]
    options["training"]["threads"], options["data"]["workers"] = 4096, 1024
    torch.save(found, run / BEST)
    taken = []
    trainer = runs._trainer

    def noted(options: Options, **more: Any) -> Any:
        taken.append((options.training.threads, options.data.workers))
        return trainer(options, **more)

    monkeypatch.setattr(runs, "_trainer", noted)
    monkeypatch.setattr(runs.os, "cpu_count", lambda: 0)
    assert evaluate(run / BEST, collection=actions).figures["loss"] > 0
    assert taken == [(None, 1)]
    found["state_dict"]["network.fc8.weight"].fill_(3e38)
    options["data"]["workers"] = 0
    torch.save(found, run / BEST)
    with pytest.raises(FloatingPointError, match="evaluation: wanted a loss that is a number"):
        evaluate(run / BEST, collection=actions)


def test_what_cannot_be_removed_is_told_before_a_training(run: Path, actions: Collection) -> None:
    (run / "checkpoints" / ".csta-fast-partial.last.ckpt").mkdir()
    before = (run / "log" / "metrics.csv").read_bytes()
    with pytest.raises(OSError, match=r"csta-fast-partial\.last\.ckpt"):
        train(training(epochs=3), run, resume=True, collection=actions)
    assert (run / "log" / "metrics.csv").read_bytes() == before
