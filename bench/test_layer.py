"""The layer's variants in turns: see the package's page for the sections."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest

from bench.groups import GROUPS
from bench.measure import measure, row
from bench.replay import CLOCK
from bench.session import Session

pytestmark = pytest.mark.benchmark(timer=CLOCK.now)

_SMOKE_SECONDS = 0.3


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    rivals = metafunc.config.getoption("--rivals", default="default")
    metafunc.parametrize(
        ("group", "variant"),
        [
            pytest.param(
                group.key,
                variant,
                id=f"{group.key}-{variant}",
                marks=pytest.mark.section(group.section),
            )
            for group in GROUPS.values()
            for variant in group.variants(rivals)
        ],
    )


def test_layer(group: str, variant: str, session: Session, record: Callable[..., None]) -> None:
    this = GROUPS[group]
    seconds = min(session.seconds, _SMOKE_SECONDS) if this.section == "smoke" else session.seconds
    names = this.variants(session.rivals)
    measured = session.once(group, partial(measure, this, names, session.backend, seconds))
    record(group, session.times(measured, variant), row(this, measured, variant))
