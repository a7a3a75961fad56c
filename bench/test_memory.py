"""Memory of a step, and what the allocator's page faults cost; both need processes of their own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import pytest

from bench import warm_heap
from bench.alone import footprint_alone, measure_alone
from bench.footprint import available
from bench.groups import ALLOCATOR_SHAPE, EAGER_ALONE, MEMORY_SHAPE, Direction, Group
from bench.measure import row
from bench.replay import CLOCK
from bench.session import Session, Stage
from bench.timing import Measured

pytestmark = pytest.mark.benchmark(timer=CLOCK.now)

_MEMORY = Group("memory", "step", MEMORY_SHAPE)

#: Environment of the process, by what the tables call it.
_SETTINGS: dict[str, Mapping[str, str]] = {
    "default": {},
    "huge-pages": warm_heap.HUGE_PAGES,
    "warm-heap": warm_heap.WARM_HEAP,  # as in every other section
    "both": warm_heap.WARM_HEAP | warm_heap.HUGE_PAGES,
}


@pytest.mark.section("memory")
@pytest.mark.skipif(not available(), reason="this system does not tell peaks of memory")
@pytest.mark.parametrize("variant", ["eager", "compile", "csta_fast"])
def test_memory(variant: str, session: Session, record: Callable[..., None]) -> None:
    def measure(stage: Stage) -> dict[str, float]:
        stage("one step")
        return footprint_alone(_MEMORY, variant, session.backend)

    found = session.once(f"{_MEMORY.key}-{variant}", measure)
    information = {
        "section": "memory",
        "direction": "step",
        "shape": list(MEMORY_SHAPE),
        "dtype": "float32",
        "variant": variant,
        "peak_in_x": found["peak_bytes"] / found["x_bytes"],
        "kept_percent": 100 * found["kept_bytes"] / found["x_bytes"],
    }
    record(_MEMORY.key, [found["seconds"]], information)


@pytest.mark.section("allocator")
@pytest.mark.parametrize("variant", ["copy", "eager", "csta_fast"])
@pytest.mark.parametrize("setting", _SETTINGS)
@pytest.mark.parametrize("direction", ["forward", "step"])
def test_allocator(
    direction: Direction, setting: str, variant: str, session: Session,
    record: Callable[..., None],
) -> None:  # fmt: skip
    """Compare csta_fast's copies between settings: the copy writes to memory it has already."""
    group = Group("allocator", direction, ALLOCATOR_SHAPE, rivals=EAGER_ALONE)
    key = f"{group.key}-{setting}"

    def measure(stage: Stage) -> Measured:
        stage(f"allocator: {setting}")
        measured = partial(measure_alone, [group], group.variants(), session.backend)
        return measured(session.seconds, _SETTINGS[setting])[0]

    measured = session.once(key, measure)
    information = row(group, measured, variant) | {"setting": f"allocator {setting}"}
    record(key, session.times(measured, variant), information)
