"""Fixtures and settings that every test module shares."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

# Threads that spin while they wait take the cores from the processes beside them.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import torch

if not torch.cuda.is_available():  # Triton reads it when it is imported
    os.environ.setdefault("TRITON_INTERPRET", "1")

import emulation
import pytest
from backends import BACKENDS, Backend, require
from hypothesis import HealthCheck, settings

from csta_fast.backends import triton as triton_backend

settings.register_profile(
    "local",
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.register_profile("ci", settings.get_profile("local"), derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")
# Plain PyTorch convolves in TF32 on a GPU unless told otherwise, though it multiplies in float32.
torch.backends.cudnn.allow_tf32 = False
if triton_backend.INTERPRETED and triton_backend.unavailable is None:
    import triton_interpreter

    triton_interpreter.patch()


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "slow: minutes of time or gigabytes of memory")
    config.addinivalue_line("markers", "quick: seconds; the seeded bugs are shown to these")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("markexpr"):
        return
    skip = pytest.mark.skip(reason="slow: run with -m slow, or -m '' for everything")
    for item in items:
        if "slow" in item.keywords:
            item.add_marker(skip)


@pytest.fixture(params=BACKENDS, ids=str)
def backend(request: pytest.FixtureRequest) -> Backend:
    """Every backend in turn."""
    require(request.param.name)
    return request.param


@pytest.fixture
def native() -> None:
    """The test is about the native library's operations."""
    require("cpu")


@pytest.fixture
def pipelined(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Small samples, too, are handed from program to program, in small slices."""
    require("triton")
    from csta_fast.kernels import plans

    monkeypatch.setattr(plans, "_SINGLE_PROGRAM", 0)
    monkeypatch.setattr(plans, "_ITEM_BYTES", 256)
    plans.plan.cache_clear()
    yield
    plans.plan.cache_clear()


@pytest.fixture(autouse=True)
def _same_random_numbers() -> None:
    torch.manual_seed(20190922)


@pytest.fixture
def adjust() -> Iterator[Callable[..., None]]:
    """Change how the emulated kernels run, until the test ends."""
    library = emulation.install()
    yield lambda **settings: emulation.adjust(library, **settings)
    emulation.adjust(library)
