"""Interleaved timing on a machine that others use too.

Within a round every variant is timed once, in a new random order. Rounds are judged in windows of
half a second, long enough for the kernel's CPU accounting: where other processes and the
hypervisor took more than a few percent of the machine, the window's rounds are dropped.
"""

from __future__ import annotations

import gc
import os
import random
import time
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

FOREIGN_LIMIT = 0.05
FEWEST_ROUNDS, MOST_ROUNDS = 9, 101
_WINDOW_SECONDS = 0.5
_BLOCK_SECONDS = 2e-3  # a timed block is at least this long, far above the clock's cost
_PATIENCE = 3.0  # times the wanted seconds that waiting for a quiet machine may take
_MOST_WARM_UPS = 8


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to compute a group's result."""

    name: str
    call: Callable[[], Any]  # timed; returns what is checked
    prepare: Callable[[], Any] | None = None  # before each call, not timed
    lengths: bool = False  # padding is skipped
    rotation: tuple[Callable[[], Any], ...] = ()  # the same calls on other input sets
    verify: Callable[[Any], None] | None = None  # what the last of the rotation returned


@dataclass(slots=True)
class Measured:
    """Seconds per call of every variant, one entry per kept round, and how it was measured."""

    seconds: dict[str, list[float]]
    interleaved: bool = True
    rounds_dropped: int = 0
    foreign_share: float | None = None  # of the machine's CPU time, in the kept rounds
    faults_per_round: float | None = None  # pages that had to be mapped while measuring
    noisy: bool = False  # too few quiet rounds: the quietest were kept
    peak_bytes: dict[str, int] = field(default_factory=dict)  # of a call, where a device tells
    details: dict[str, Any] = field(default_factory=dict)  # what else a device says of its timing
    failed: dict[str, str] = field(default_factory=dict)  # variants without times: their errors

    def conditions(self) -> dict[str, Any]:
        apart = ("seconds", "peak_bytes", "details", "failed")
        return {key: value for key, value in asdict(self).items() if key not in apart} | (
            self.details
        )


@dataclass(slots=True)
class _Window:
    rounds: list[dict[str, float]] = field(default_factory=list)
    foreign: float | None = None
    faults: int = 0


def stopwatch(call: Callable[[], Any], calls: int) -> float:
    """Seconds per call, on the device that computes; the one place that knows how to time it."""
    start = time.perf_counter()
    for _ in range(calls):
        call()
    return (time.perf_counter() - start) / calls


def page_faults() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt if resource else 0


@dataclass(frozen=True, slots=True)
class _CpuTimes:
    wall: float
    own: float
    busy: float | None  # of the whole machine, stolen time included; None where unknown

    @classmethod
    def now(cls) -> _CpuTimes:
        busy = None
        counters = Path("/proc/stat")
        if counters.exists():
            # user nice system idle iowait irq softirq steal, in ticks
            ticks = [int(word) for word in counters.read_text().splitlines()[0].split()[1:9]]
            busy = (sum(ticks) - ticks[3] - ticks[4]) / os.sysconf("SC_CLK_TCK")
        return cls(time.perf_counter(), time.process_time(), busy)

    def foreign_since(self, start: _CpuTimes) -> float | None:
        if self.busy is None or start.busy is None:
            return None
        foreign = (self.busy - start.busy) - (self.own - start.own)
        return max(0.0, foreign / ((os.cpu_count() or 1) * (self.wall - start.wall)))


@contextmanager
def no_garbage_collection() -> Any:
    enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _time(variant: Variant, calls: int) -> float:
    if variant.prepare is not None:
        variant.prepare()
    return stopwatch(variant.call, calls)


def _warm_up(variants: Sequence[Variant]) -> dict[str, int]:
    """Run until the heap has grown to its size; return calls per timed block."""
    calls = dict.fromkeys((variant.name for variant in variants), 1)
    for repeat in range(_MOST_WARM_UPS):
        before = page_faults()
        for variant in variants:
            seconds = _time(variant, calls[variant.name])
            if variant.prepare is None:
                calls[variant.name] = max(1, round(_BLOCK_SECONDS / seconds))
        if repeat >= 2 and page_faults() - before < 64:
            break
    return calls


def interleave(
    variants: Sequence[Variant], seconds: float, stage: Callable[[str], None] = lambda text: None
) -> Measured:
    """Time every variant in turns for about the given seconds, longer on a busy machine."""
    calls = _warm_up(variants)
    order, shuffle = list(variants), random.Random(0).shuffle
    windows: list[_Window] = []
    started = time.perf_counter()
    with no_garbage_collection():
        while True:
            window = _Window()
            times, faults = _CpuTimes.now(), page_faults()
            while True:
                shuffle(order)
                window.rounds.append({v.name: _time(v, calls[v.name]) for v in order})
                if time.perf_counter() - times.wall >= _WINDOW_SECONDS:
                    break
            window.faults = page_faults() - faults
            window.foreign = _CpuTimes.now().foreign_since(times)
            windows.append(window)
            quiet = sum(len(w.rounds) for w in windows if (w.foreign or 0.0) <= FOREIGN_LIMIT)
            elapsed = time.perf_counter() - started
            stage(f"{quiet} quiet rounds of {sum(len(w.rounds) for w in windows)}")
            if quiet >= MOST_ROUNDS or (elapsed >= seconds and quiet >= FEWEST_ROUNDS):
                break
            if (
                elapsed >= _PATIENCE * seconds
                and sum(len(w.rounds) for w in windows) >= FEWEST_ROUNDS
            ):
                break
    return _keep_quiet(windows)


def _keep_quiet(windows: list[_Window]) -> Measured:
    kept = [window for window in windows if (window.foreign or 0.0) <= FOREIGN_LIMIT]
    noisy = sum(len(window.rounds) for window in kept) < FEWEST_ROUNDS
    if noisy:
        kept = []
        for window in sorted(windows, key=lambda window: window.foreign or 0.0):
            kept.append(window)
            if sum(len(window.rounds) for window in kept) >= FEWEST_ROUNDS:
                break
    rounds = [timed for window in kept for timed in window.rounds]
    shares = [window.foreign for window in kept if window.foreign is not None]
    return Measured(
        {name: [timed[name] for timed in rounds] for name in rounds[0]},
        rounds_dropped=sum(len(window.rounds) for window in windows) - len(rounds),
        foreign_share=sum(shares) / len(shares) if shares else None,
        faults_per_round=sum(window.faults for window in kept) / len(rounds),
        noisy=noisy,
    )
