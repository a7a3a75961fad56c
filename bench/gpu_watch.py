"""Runs pytest where one wrong kernel can take every later test along, and keeps that small.

    python -m bench.gpu_watch tests -k cuda

Every failure is told at once, in a line that begins with RED, with its message and what led to it.
A kernel that reads where it must not leaves its process without a GPU, and one that waits forever
never returns: the process ends, RED tells which test it was, and a new one goes on behind it. All
options are pytest's. The exit status is 1 if anything was red.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

#: How a failure is told: the test and its message.
RED = "RED "

_MOST_PROCESSES = 20  # after so many the cause is known
_LOST = 70  # the exit status of a process without a GPU

_BEGUN = pytest.StashKey[Path]()
_ERRORS = pytest.StashKey[int]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--begun", type=Path, help="file of tests that were begun: not run again")
    parser.addoption("--longest-test", type=float, default=120.0,
                     help="seconds after which a test, and its process, is ended")  # fmt: skip


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_ERRORS] = os.dup(2)  # before a test's output is captured


@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> Iterator[None]:
    yield  # bench.shard picks its part of all tests
    if begun := config.getoption("--begun"):
        done = set(begun.read_text().splitlines()) if begun.exists() else set()
        items[:] = [item for item in items if item.nodeid not in done]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    if begun := item.config.getoption("--begun"):
        with begun.open("a") as file:
            file.write(f"{item.nodeid}\n")
    seconds = item.config.getoption("--longest-test")
    faulthandler.dump_traceback_later(seconds, exit=True, file=item.config.stash[_ERRORS])
    try:
        return (yield)
    finally:
        faulthandler.cancel_dump_traceback_later()


def pytest_sessionfinish(session: pytest.Session) -> None:
    if begun := session.config.getoption("--begun"):
        _ended(begun).touch()


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if not report.failed:
        return
    message = getattr(getattr(report.longrepr, "reprcrash", None), "message", report.longreprtext)
    tell(report.nodeid, message)
    print(report.longreprtext, flush=True)
    if not _gpu_answers():
        os._exit(_LOST)


def _gpu_answers() -> bool:
    """Whether this process still has a GPU, or never had one."""
    import torch

    if not torch.cuda.is_initialized():
        return True
    try:
        torch.cuda.synchronize()
    except RuntimeError:
        return False
    return True


def tell(test: str, message: str) -> None:
    """A line on a failure, which ``bench.gpu_summary`` looks for."""
    print(f"\n{RED}{test}: {' '.join(message.split())[:300]}", flush=True)


def _ended(begun: Path) -> Path:
    """A file that is there when pytest has ended by itself."""
    return begun.with_suffix(".ended")


def _ended_early(status: int, begun: Path) -> bool:
    """Whether a test has ended its process; tells which and how, unless that was told."""
    if _ended(begun).exists() or not begun.exists():
        return False
    if status != _LOST:
        how = f"by {signal.Signals(-status).name}" if status < 0 else "for it took too long"
        tell(begun.read_text().splitlines()[-1], f"its process was ended {how}")
    return True


def main(arguments: Sequence[str]) -> int:
    red = False
    with tempfile.TemporaryDirectory() as folder:
        begun = Path(folder, "begun")
        words = [sys.executable, "-m", "pytest", "-p", "bench.gpu_watch", f"--begun={begun}"]
        for _ in range(_MOST_PROCESSES):
            status = subprocess.run([*words, *arguments], check=False).returncode
            if not _ended_early(status, begun):
                return int(red or status != 0)
            red = True
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
