"""A pytest plugin that keeps one part of the tests, so that several processes can share a suite.

    python -m pytest tests -p bench.shard --shard=1/4

Compiling a kernel keeps one processor busy and the GPU idle; parts compile side by side. What is
marked quick comes first: if time is up before the end, a few cases of each sort have been tried.
"""

from __future__ import annotations

import pytest


def _part(text: str) -> tuple[int, int]:
    part, of = map(int, text.split("/"))
    if not 1 <= part <= of:
        raise ValueError(text)
    return part, of


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--shard", type=_part, default=(1, 1), help="PART/OF: every OF-th test")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    part, of = config.getoption("--shard")
    items.sort(key=lambda item: item.get_closest_marker("quick") is None)
    kept = items[part - 1 :: of]
    chosen = set(kept)
    config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
    items[:] = kept
