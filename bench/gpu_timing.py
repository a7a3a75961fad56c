"""Timing on a GPU: what the device needed, and nothing that the host did in between.

A block is many calls between two events. Calls shorter than a millisecond stand in a CUDA graph,
because the host takes longer to enqueue them than the device to run them; a group can ask for an
ordinary loop instead, to see just that. The calls of a block go round among input sets that
together exceed the L2 cache several times, and a round's results are held, so that neither reads
nor writes find their lines in the cache. Within a round every variant has one block, in a new
random order.
"""

from __future__ import annotations

import random
import time
from collections import deque
from collections.abc import Callable, Sequence
from statistics import median, quantiles
from typing import Any, Protocol

from bench.timing import FEWEST_ROUNDS, MOST_ROUNDS, Measured, Variant, no_garbage_collection

_BLOCK_SECONDS = 2e-3  # a timed block is at least this long, far above what events resolve
_LONGEST_IN_GRAPH = 1e-3  # of a call; the host is far ahead of longer ones
_FEWEST_CALLS = 32  # of a graph or loop, so that what stands between two of them weighs nothing
_SETTLED = 0.01  # two passes over all variants differ by less once clocks are steady
_LEAST_WARM_UP, _MOST_WARM_UP = 0.3, 2.0  # seconds
_WIDEST_SPREAD = 0.05  # of the middle half of the first variant's times, over their median


class Event(Protocol):
    def record(self) -> None: ...
    def synchronize(self) -> None: ...
    def elapsed_time(self, end: Any, /) -> float: ...  # milliseconds


class Graph(Protocol):
    def replay(self) -> None: ...


class Runtime(Protocol):
    """What timing needs of a device; see ``bench.device`` for the real one."""

    def synchronize(self) -> None: ...
    def event(self) -> Event: ...
    def hold(self) -> None:
        """Keep the device busy for a moment, in which the host enqueues what is to be timed."""

    def capture(self, run: Callable[[], None]) -> Graph: ...
    def peak_of(self, call: Callable[[], Any]) -> int:
        """Most bytes allocated at once during a call, beyond what was there before."""


class Block:
    """Many calls of one variant between two events."""

    def __init__(self, variant: Variant, runtime: Runtime) -> None:
        if variant.prepare is not None:
            raise ValueError(f"{variant.name}: wanted a call that needs no preparation on a GPU")
        self.name = variant.name
        self.verify = variant.verify
        self.runtime = runtime
        self.rotation = (variant.call, *variant.rotation)
        self.results: deque[Any] = deque(maxlen=len(self.rotation))  # no address is used twice
        rounds = -(-_FEWEST_CALLS // len(self.rotation))
        self.calls = rounds * len(self.rotation)
        self.repeats = 1
        self.graph: Graph | None = None
        self._start, self._end = runtime.event(), runtime.event()

    def loop(self) -> None:
        """All calls, one after the other."""
        for _ in range(self.calls // len(self.rotation)):
            for call in self.rotation:
                self.results.append(call())

    def capture(self) -> None:
        """Put the calls into a graph, whose results then lie in memory of its own."""
        self.results.clear()
        self.graph = self.runtime.capture(self.loop)

    def fill(self) -> None:
        """Repeat the calls until a block is long enough."""
        self.repeats = 1
        self.repeats = max(1, round(_BLOCK_SECONDS / (self.seconds() * self.calls)))

    def seconds(self) -> float:
        """Time one block; seconds per call."""
        run = self.loop if self.graph is None else self.graph.replay
        if self.graph is not None:
            self.runtime.hold()
        self._start.record()
        for _ in range(self.repeats):
            run()
        self._end.record()
        self._end.synchronize()
        return self._start.elapsed_time(self._end) / 1e3 / (self.repeats * self.calls)

    def check(self) -> None:
        """Raise unless the last timed call returned what it should."""
        if self.verify is not None:
            self.verify(self.results[-1])


def _settle(blocks: Sequence[Block], stage: Callable[[str], None]) -> None:
    """Run everything untimed until the device's clocks are steady."""
    stage("warming up")
    started, before = time.perf_counter(), 0.0
    while True:
        total = sum(block.seconds() for block in blocks)
        elapsed = time.perf_counter() - started
        steady = abs(total - before) <= _SETTLED * total
        if (elapsed >= _LEAST_WARM_UP and steady) or elapsed >= _MOST_WARM_UP:
            return
        before = total


def _spread(times: Sequence[float]) -> float:
    low, _, high = quantiles(times, n=4, method="inclusive")
    return (high - low) / median(times)


def interleave(
    variants: Sequence[Variant],
    seconds: float,
    stage: Callable[[str], None],
    runtime: Runtime,
    replay: bool,
) -> Measured:
    """Time every variant in turns for about the given seconds.

    Args:
        variants: calls without preparation, each with its rotation.
        seconds: of measuring, after warming up.
        stage: told what is going on.
        runtime: the device.
        replay: whether short calls are put into graphs.

    Raises:
        WrongResultError: the last call of a variant returned something wrong.
    """
    blocks, peaks = [], {}
    for variant in variants:
        stage(f"first calls of {variant.name}")
        block = Block(variant, runtime)
        block.loop()
        runtime.synchronize()
        peaks[variant.name] = runtime.peak_of(variant.call)
        blocks.append(block)
    in_graph = replay and min(block.seconds() for block in blocks) < _LONGEST_IN_GRAPH
    with no_garbage_collection():
        for block in blocks:
            stage(f"preparing {block.name}")
            if in_graph:
                block.capture()
            block.fill()
        _settle(blocks, stage)
        times = _rounds(blocks, seconds, stage)
    for block in blocks:
        block.check()
    calls, sets = blocks[0].calls, len(blocks[0].rotation)
    return Measured(
        times,
        noisy=_spread(times[blocks[0].name]) > _WIDEST_SPREAD,
        peak_bytes=peaks,
        details={"timed": "graph" if in_graph else "loop", "calls": calls, "input_sets": sets},
    )


def _rounds(
    blocks: Sequence[Block], seconds: float, stage: Callable[[str], None]
) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {block.name: [] for block in blocks}
    order, shuffle = list(blocks), random.Random(0).shuffle
    started = time.perf_counter()
    for count in range(1, MOST_ROUNDS + 1):
        shuffle(order)
        for block in order:
            times[block.name].append(block.seconds())
        stage(f"{count} rounds")
        if time.perf_counter() - started >= seconds and count >= FEWEST_ROUNDS:
            break
    return times
