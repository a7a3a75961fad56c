"""Hands recorded times to pytest-benchmark, whose table, JSON and comparisons then just work.

pytest-benchmark runs one test after the other, but variants must take turns round by round. So a
group is timed as a whole first, and each of its tests then replays its variant's rounds on a
clock that only recorded times move.
"""

from __future__ import annotations

from collections.abc import Sequence

from pytest_benchmark.fixture import BenchmarkFixture


class RecordedTime:
    """A clock that stands still except during a replay."""

    def __init__(self) -> None:
        self._now = 0.0

    def now(self) -> float:
        return self._now

    def replay(self, benchmark: BenchmarkFixture, seconds: Sequence[float]) -> None:
        """Let the benchmark fixture see one round per recorded time."""
        recorded = iter(seconds)

        def one_round() -> None:
            self._now += next(recorded)

        self._now = 0.0
        benchmark.pedantic(one_round, rounds=len(seconds))  # type: ignore[no-untyped-call]


CLOCK = RecordedTime()
