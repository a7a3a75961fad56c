"""Clips a second of whole networks: fused attention, plain attention, and none."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from statistics import median

import pytest

from bench import networks
from bench.replay import CLOCK
from bench.session import Session, Stage
from bench.timing import Measured, interleave

pytestmark = pytest.mark.benchmark(timer=CLOCK.now)

_SMOKE_SECONDS = 0.3


def _measure(section: str, direction: str, session: Session, stage: Stage) -> Measured:
    seconds = min(session.seconds, _SMOKE_SECONDS) if section == "smoke" else session.seconds
    clips = networks.SIZES[section]
    return interleave(networks.variants(direction, clips, session.backend), seconds, stage)


@pytest.mark.parametrize("variant", networks.NAMES)
@pytest.mark.parametrize("direction", networks.DIRECTIONS)
@pytest.mark.parametrize(
    "section",
    [pytest.param(name, marks=pytest.mark.section(name)) for name in networks.SIZES],
)
def test_network(
    section: str, direction: str, variant: str, session: Session, record: Callable[..., None]
) -> None:
    group = f"{section}-network-{direction}"
    measured = session.once(group, partial(_measure, section, direction, session))
    times, base = measured.seconds[variant], measured.seconds[networks.BASE]
    clips = networks.SIZES[section]
    information = {
        "section": section,
        "direction": direction,
        "shape": list(clips.shape),
        "dtype": "float32",
        "variant": variant,
        "clips_per_second": clips.samples / median(times),
        "of_hcn": median(time / least for time, least in zip(times, base, strict=True)),
        **measured.conditions(),
    }
    record(group, times, information)
