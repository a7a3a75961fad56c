"""Microseconds that a call costs beyond the cheapest operation, where there is nothing to do."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median

import pytest
import torch

from bench import overhead
from bench.replay import CLOCK
from bench.session import Session, Stage
from bench.timing import Measured, interleave

pytestmark = [pytest.mark.benchmark(timer=CLOCK.now), pytest.mark.section("overhead")]


@pytest.mark.parametrize("variant", overhead.NAMES)
def test_overhead(variant: str, session: Session, record: Callable[..., None]) -> None:
    def measure(stage: Stage) -> Measured:
        with torch.no_grad():
            return interleave(overhead.variants(session.backend), session.seconds, stage)

    measured = session.once("overhead", measure)
    times, base = measured.seconds[variant], measured.seconds[overhead.BASE]
    above = median(time - least for time, least in zip(times, base, strict=True))
    information = {
        "section": "overhead",
        "direction": "forward",
        "shape": [1, 1, 1, 1],
        "dtype": "float32",
        "variant": variant,
        "above_base_microseconds": 1e6 * above,
        **measured.conditions(),
    }
    record("overhead", times, information)
