"""The layer's variants in turns on a GPU, each backend that serves it by name."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest

from bench.device import DEVICES
from bench.gpu_groups import GPU_GROUPS
from bench.measure import measure, row
from bench.replay import CLOCK
from bench.session import Session

pytestmark = pytest.mark.benchmark(timer=CLOCK.now)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    option = metafunc.config.getoption
    rivals = option("--rivals", default="default")
    own = DEVICES[option("--device", default="cpu")].own_variants(option("--backend", default=None))
    metafunc.parametrize(
        ("group", "variant"),
        [
            pytest.param(
                group.key,
                variant,
                id=f"{group.key}-{variant}",
                marks=pytest.mark.section(group.section),
            )
            for group in GPU_GROUPS.values()
            for variant in group.variants(rivals, own)
        ],
    )


def test_gpu(group: str, variant: str, session: Session, record: Callable[..., None]) -> None:
    this = GPU_GROUPS[group]
    names = this.variants(session.rivals, session.device.own_variants(session.backend))
    measured = session.once(group, partial(measure, this, names, session.backend, session.seconds))
    record(group, session.times(measured, variant), row(this, measured, variant))
