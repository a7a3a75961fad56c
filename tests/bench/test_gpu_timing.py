"""The timing of a GPU on a pretended one, whose clock is moved by what it is given to do."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from statistics import median
from typing import Any

import pytest
import torch
from torch import Tensor

from bench import gpu_timing
from bench.correctness import WrongResultError
from bench.device import DEVICES, Stage, input_sets
from bench.gpu_groups import CHANNELS_LAST_SHAPE, GPU_GROUPS, LARGE_MEGABYTES, SECTIONS, SHAPES
from bench.groups import GROUPS, SMALL_GROUPS, Group
from bench.measure import measure, row
from bench.timing import FEWEST_ROUNDS, Measured, Variant

_GAP = 40e-6  # what the host needs to enqueue a call
_HOLD = 1.0


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Small calls: threads that wait for each other would take most of the time."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@dataclass
class _Clock:
    now: float = 0.0
    captured: list[float] | None = None  # durations, while a graph is recorded

    def work(self, seconds: float) -> None:
        if self.captured is None:
            self.now += max(seconds, _GAP)
        else:
            self.captured.append(seconds)


@dataclass
class _Event:
    clock: _Clock
    at: float = 0.0

    def record(self) -> None:
        self.at = self.clock.now

    def synchronize(self) -> None: ...

    def elapsed_time(self, end: _Event) -> float:
        return 1e3 * (end.at - self.at)


@dataclass
class _Graph:
    clock: _Clock
    durations: list[float]

    def replay(self) -> None:
        self.clock.now += sum(self.durations)


@dataclass
class _Runtime:
    """A device on which a call lasts as long as it says; the host's gaps count outside graphs."""

    clock: _Clock = field(default_factory=_Clock)
    graphs: list[_Graph] = field(default_factory=list)

    def synchronize(self) -> None: ...

    def event(self) -> _Event:
        return _Event(self.clock)

    def hold(self) -> None:
        self.clock.now += _HOLD

    def capture(self, run: Callable[[], None]) -> _Graph:
        self.clock.captured = []
        run()
        self.graphs.append(_Graph(self.clock, self.clock.captured))
        self.clock.captured = None
        return self.graphs[-1]

    def peak_of(self, call: Callable[[], Any]) -> int:
        call()
        return 1000


def _lasting(name: str, runtime: _Runtime, seconds: float, seen: list[Any], sets: int) -> Variant:
    """A variant whose calls last so long and return objects that tell their set."""

    def call(index: int) -> list[int]:
        runtime.clock.work(seconds)
        seen.append(index)
        return [index]

    calls = [partial(call, index) for index in range(sets)]
    return Variant(name, calls[0], rotation=tuple(calls[1:]))


def _quiet(text: str) -> None: ...


@pytest.mark.parametrize("seconds", [3e-6, 45e-6, 700e-6])
def test_gpu_short_calls_are_timed_without_the_gaps_between_them(seconds: float) -> None:
    runtime, seen = _Runtime(), []  # type: ignore[var-annotated]
    variants = [_lasting(n, runtime, s, seen, 5) for n, s in (("a", seconds), ("b", 2 * seconds))]
    measured = gpu_timing.interleave(variants, 0.0, _quiet, runtime, replay=True)
    assert measured.details == {"timed": "graph", "calls": 35, "input_sets": 5}
    assert median(measured.seconds["a"]) == pytest.approx(seconds, rel=1e-6)
    assert median(measured.seconds["b"]) == pytest.approx(2 * seconds, rel=1e-6)
    assert len(measured.seconds["a"]) == len(measured.seconds["b"]) == FEWEST_ROUNDS
    assert seen.count(0) - seen.count(4) == 2  # the calls that memory was asked about
    assert measured.peak_bytes == {"a": 1000, "b": 1000}
    assert not measured.noisy


def test_gpu_long_calls_and_loops_need_no_graph() -> None:
    for seconds, replay in ((2e-3, True), (3e-6, False)):
        runtime = _Runtime()
        variant = _lasting("a", runtime, seconds, [], 3)
        measured = gpu_timing.interleave([variant], 0.0, _quiet, runtime, replay)
        assert (measured.details["timed"], runtime.graphs) == ("loop", [])
        assert median(measured.seconds["a"]) == pytest.approx(max(seconds, _GAP), rel=1e-6)


def test_gpu_results_of_a_round_lie_apart() -> None:
    runtime = _Runtime()
    variant = _lasting("a", runtime, 3e-6, [], 4)
    block = gpu_timing.Block(variant, runtime)
    block.loop()
    assert [each[0] for each in block.results] == [0, 1, 2, 3]
    assert len({id(each) for each in block.results}) == 4


def test_gpu_no_time_for_a_wrong_last_result() -> None:
    runtime = _Runtime()

    def refuse(result: list[int]) -> None:
        assert result == [2], "the last of the rotation"
        raise WrongResultError("wrong")

    wrong = replace(_lasting("a", runtime, 3e-6, [], 3), verify=refuse)
    with pytest.raises(WrongResultError):
        gpu_timing.interleave([wrong], 0.0, _quiet, runtime, replay=True)


def test_gpu_no_calls_that_need_preparation() -> None:
    with pytest.raises(ValueError, match="needs no preparation"):
        gpu_timing.Block(Variant("a", int, prepare=int), _Runtime())


@pytest.mark.parametrize("bytes_of_x", [1, 400_000, 52_000_000, 10**9, 10**11])
def test_gpu_input_sets_exceed_the_cache_and_fit(bytes_of_x: int) -> None:
    l2, memory = 50 * 2**20, 80 * 10**9
    sets = input_sets(bytes_of_x, l2, memory)
    assert sets >= 2
    assert sets * bytes_of_x >= 4 * l2 or sets == 1024
    assert sets * bytes_of_x <= memory / 32 or sets == 2
    assert input_sets(bytes_of_x, l2, 32 * 2 * bytes_of_x) == 2


def test_gpu_groups() -> None:
    """What goals are about is there, and a device measures its own sections only."""
    for shape in (*SHAPES, CHANNELS_LAST_SHAPE):
        for dtype in ("float32", "bfloat16"):
            for direction in ("forward", "step"):
                assert Group("gpu", direction, shape, dtype).key in GPU_GROUPS
    for dtype in ("float32", "bfloat16"):
        of_dtype = [group for group in GPU_GROUPS.values() if group.dtype == dtype]
        assert any(group.bytes_of_x >= 1e6 * LARGE_MEGABYTES for group in of_dtype)
    assert "gpu-step-128x64x64x25-bfloat16-channels_last" in GPU_GROUPS
    assert "gpu_small-forward-1x64x64x25-float32-loop" in GPU_GROUPS
    here, there = DEVICES["cpu"], DEVICES["cuda"]
    assert {group.section for group in GPU_GROUPS.values()} == set(SECTIONS)
    for group in GPU_GROUPS.values():
        assert there.measures(group.section)
        assert not here.measures(group.section)
    for group in (*GROUPS.values(), *SMALL_GROUPS.values()):
        assert here.measures(group.section)
        assert not there.measures(group.section)


class _RealTime(_Clock):
    """The clock on the wall, for calls that really compute."""

    @property
    def now(self) -> float:
        return time.perf_counter()

    @now.setter
    def now(self, value: float) -> None: ...


class _Redone:
    """A graph that calls again what it recorded."""

    def __init__(self, run: Callable[[], None]) -> None:
        run()
        self.replay = run


class _Pretended:
    """The processor under the rules of a GPU: three input sets, graphs, and a verified end."""

    def __init__(self) -> None:
        self.runtime = _Runtime(_RealTime())
        self.runtime.capture = _Redone  # type: ignore[method-assign, assignment]

    def input_sets(self, group: Group) -> int:
        return 3

    def computing(self) -> AbstractContextManager[Any]:
        return nullcontext()

    def interleave(
        self, group: Group, variants: Sequence[Variant], seconds: float, stage: Stage
    ) -> Measured:
        return gpu_timing.interleave(variants, seconds, stage, self.runtime, group.replay)


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("direction", ["forward", "step"])
def test_gpu_measures_a_group(
    direction: Any, channels_last: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From tensors to rows, as on a GPU, with plain PyTorch in the place of kernels."""
    monkeypatch.setitem(DEVICES, "cpu", _Pretended())
    for name in ("_LEAST_WARM_UP", "_MOST_WARM_UP", "_BLOCK_SECONDS"):
        monkeypatch.setattr(gpu_timing, name, 1e-6)
    monkeypatch.setattr(gpu_timing, "_FEWEST_CALLS", 3)
    group = Group("gpu", direction, (2, 6, 9, 5), channels_last=channels_last)
    names = ("copy", "eager", "csta_fast-reference")
    measured = measure(group, names, None, 0.0)
    assert tuple(measured.seconds) == names
    found = row(replace(group, device="cuda"), measured, "csta_fast-reference")
    assert found["timed"] == "graph"
    assert found["input_sets"] == 3
    assert found["better_rival"] == "eager"
    assert ("peak_in_x" in found) is (direction == "step")
    assert found["percent_of_limit"] > 0


def test_gpu_what_cannot_be_compiled_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """The others of its group are measured without it; a wrong one leaves the group no times."""
    monkeypatch.setitem(DEVICES, "cuda", _Pretended())
    for name in ("_LEAST_WARM_UP", "_MOST_WARM_UP", "_BLOCK_SECONDS"):
        monkeypatch.setattr(gpu_timing, name, 1e-6)
    error: Exception = RuntimeError("no compiler")

    def refuse(variant: Variant, *_: Any) -> None:
        if variant.name == "eager":
            raise error

    monkeypatch.setattr("bench.measure.check", refuse)
    monkeypatch.setattr("bench.measure.check_results", lambda *_: None)
    monkeypatch.setattr("bench.variants._features", lambda group: torch.randn(group.shape))
    monkeypatch.setattr(Tensor, "to", lambda tensor, *_, **__: tensor)
    group = Group("gpu", "forward", (2, 6, 9, 5), device="cuda")
    names = ("copy", "eager", "csta_fast-reference")
    measured = measure(group, names, None, 0.0)
    assert tuple(measured.seconds) == ("copy", "csta_fast-reference")
    assert measured.failed == {"eager": "RuntimeError: no compiler"}
    assert "failed" not in row(group, measured, "csta_fast-reference")
    error = WrongResultError("wrong")
    with pytest.raises(WrongResultError):
        measure(group, names, None, 0.0)


def test_gpu_without_one_says_so() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    assert DEVICES["cuda"].missing(None) == "PyTorch sees no GPU"
