"""A finished training, for the tests of what becomes of its files."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from csta_fast.data import Collection, generate


@pytest.fixture(scope="module")
def actions() -> Collection:
    return generate(3, 4, 2, frames=(20, 30))


@pytest.fixture(scope="module")
def finished(actions: Collection, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two epochs."""
    output = tmp_path_factory.mktemp("runs") / "finished"
    from trainings import OPTIONS

    from csta_fast.training import train

    train(OPTIONS, output, collection=actions)
    return output


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A copy of it, to be changed."""
    return Path(shutil.copytree(finished, tmp_path / "run"))
