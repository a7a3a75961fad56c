"""The benches' own safeguards: wrong results get no times, and busy rounds are dropped."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor

from bench.correctness import WrongResultError, check
from bench.groups import UNITS, Direction, Group
from bench.measure import measure, row
from bench.timing import FEWEST_ROUNDS, Variant, interleave
from bench.variants import make_problem, make_variant

_DIRECTIONS = tuple(UNITS)
_SHAPE = (4, 6, 9, 5)
_HARMS: dict[str, Callable[[Tensor], Tensor]] = {
    "zeros": torch.zeros_like,
    "shifted": lambda result: result.roll(1),
    "nan": lambda result: result * torch.nan,
}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("direction", _DIRECTIONS)
def test_check_accepts_eager(direction: Direction, dtype: str) -> None:
    group = Group("smoke", direction, _SHAPE, dtype)
    problem = make_problem(group)
    check(make_variant("eager", group, problem, "reference"), problem, direction)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("direction", _DIRECTIONS)
@pytest.mark.parametrize("harm", _HARMS.values(), ids=_HARMS)
def test_check_rejects(direction: Direction, dtype: str, harm: Callable[[Tensor], Tensor]) -> None:
    """Each result alone spoilt."""
    group = Group("smoke", direction, _SHAPE, dtype)
    problem = make_problem(group)
    right = make_variant("eager", group, problem, "reference")
    if right.prepare is not None:
        right.prepare()
    results = right.call()
    results = (results,) if isinstance(results, Tensor) else results
    for index, result in enumerate(results):
        if result.numel() == 1:  # the last bias, which softmax cancels: its gradient is zero
            continue
        spoilt = (*results[:index], harm(result), *results[index + 1 :])
        with pytest.raises(WrongResultError):
            check(Variant("spoilt", partial(tuple, spoilt)), problem, direction)


def test_rounds() -> None:
    measured = interleave([Variant("a", lambda: None), Variant("b", lambda: None)], seconds=0.01)
    assert measured.seconds.keys() == {"a", "b"}
    assert len(measured.seconds["a"]) == len(measured.seconds["b"]) >= FEWEST_ROUNDS


def test_report(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from bench.report import main

    what = {
        "section": "forward", "direction": "forward", "shape": [384, 64, 64, 25],
        "dtype": "float32", "channels_last": False, "copies": 0.9, "speedup": 3.2,
        "rivals": ["eager"],
        "copies_quartiles": [0.88, 0.93], "gigabytes_per_second": 33.0,
        "percent_of_limit": 111.0, "median_seconds": 9.6e-3,
    }  # fmt: skip
    results = {
        "machine_info": {"cpu": "some CPU", "torch": "2.13"},
        "datetime": "2026-01-01T00:00:00+00:00",
        "benchmarks": [
            {"fullname": name, "extra_info": what | {"variant": name}}
            for name in ("copy", "eager", "csta_fast")
        ],
    }
    (tmp_path / "results.json").write_text(json.dumps(results))
    main([str(tmp_path / "results.json"), "--output", str(tmp_path)])
    text = (tmp_path / "benchmarks.md").read_text()
    assert "some CPU" in text
    assert "0.90" in text
    assert "met ≤ 1.05" in text
    assert (tmp_path / "benchmarks.svg").stat().st_size > 1000


@pytest.mark.parametrize("content", [None, "no JSON", "[]", "{}"])
def test_report_of_a_wrong_file(
    content: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from bench.report import main

    path = tmp_path / "results.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(SystemExit):
        main([str(path), "--output", str(tmp_path / "out")])
    assert f"results: wanted files of --results, got {path}" in capsys.readouterr().err


@pytest.mark.parametrize("broken", ["eager", "csta_fast"])
def test_a_rival_that_cannot_be_compiled_costs_itself_alone(
    broken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is measured must not be missing; a rival may."""

    def refuse(variant: Variant, *_: object) -> None:
        if variant.name == broken:
            raise RuntimeError("no compiler")

    monkeypatch.setattr("bench.measure.check", refuse)
    group = Group("smoke", "forward", _SHAPE)
    if broken == "csta_fast":
        with pytest.raises(RuntimeError, match="no compiler"):
            measure(group, ("copy", "eager", "csta_fast"), "reference", 0.0)
        return
    measured = measure(group, ("copy", "eager", "csta_fast"), "reference", 0.0)
    assert measured.seconds.keys() == {"copy", "csta_fast"}
    assert measured.failed == {"eager": "RuntimeError: no compiler"}
    assert "speedup" not in row(group, measured, "csta_fast")
