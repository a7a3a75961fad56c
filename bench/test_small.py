"""Latency of one to eight samples, each variant alone in a process of its own.

In one process, whatever ran before decides how many threads are awake and which cache lines are
warm, and a fixed order once made the slower of two variants look faster.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bench.alone import measure_alone
from bench.groups import SMALL_GROUPS
from bench.measure import row
from bench.replay import CLOCK
from bench.session import Session, Stage
from bench.timing import Measured

pytestmark = [pytest.mark.benchmark(timer=CLOCK.now), pytest.mark.section("small")]

_MOST_SECONDS = 1.0


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    rivals = metafunc.config.getoption("--rivals", default="default")
    metafunc.parametrize(
        ("group", "variant"),
        [
            pytest.param(key, variant, id=f"{key}-{variant}")
            for key, group in SMALL_GROUPS.items()
            for variant in group.variants(rivals)
        ],
    )


def _alone(variant: str, session: Session) -> dict[str, Measured]:
    """Times of one variant by group, all from one process."""

    def measure(stage: Stage) -> list[Measured]:
        stage("all shapes")
        seconds = min(session.seconds, _MOST_SECONDS)
        return measure_alone(SMALL_GROUPS.values(), [variant], session.backend, seconds)

    found = session.once(f"small, {variant} alone", measure)
    return dict(zip(SMALL_GROUPS, found, strict=True))


def test_small(group: str, variant: str, session: Session, record: Callable[..., None]) -> None:
    this = SMALL_GROUPS[group]
    parts = [_alone(name, session)[group] for name in this.variants(session.rivals)]
    measured = Measured(
        {name: times for part in parts for name, times in part.seconds.items()},
        interleaved=False,
        rounds_dropped=sum(part.rounds_dropped for part in parts),
        noisy=any(part.noisy for part in parts),
        failed={name: why for part in parts for name, why in part.failed.items()},
    )
    record(group, session.times(measured, variant), row(this, measured, variant))
