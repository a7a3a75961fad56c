"""Runs pytest in processes in which the costly beginnings are done.

Most of a short run is the import of PyTorch and the collection of the tests. A server imports
PyTorch once, and is forked for every run. A run for each of many bugs also collects only once: the
process that has collected is forked for each bug.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

import pytest

_SERVER = multiprocessing.get_context("forkserver")


@dataclass(frozen=True)
class Finished:
    """How a run of pytest ended: its status, or minus a signal; and what it printed."""

    returncode: int
    lines: list[str]
    seconds: float


class Run(NamedTuple):
    """The number of the bug to select, 0 for none; and the tests to begin with.

    First those of ``tests/test_{file}.py`` with ``name`` in their names, then its others.
    """

    bug: int
    file: str = ""
    name: str = ""

    def stage(self, item: pytest.Item) -> int:
        return 2 if item.path.stem != f"test_{self.file}" else int(self.name not in item.name)


def prepare(environment: Mapping[str, str]) -> None:
    """Before the first run: the environment of all, some of which is read at a start only."""
    os.environ.update(environment)
    _SERVER.set_forkserver_preload(["torch", "triton", "pytest"])


def run_pytest(folder: Path, arguments: Sequence[str]) -> Finished:
    """Run pytest in a folder, whose modules come before those of the same name elsewhere."""
    begin = time.perf_counter()
    with tempfile.NamedTemporaryFile(mode="r", errors="replace") as printed:
        process = _SERVER.Process(target=_child, args=(str(folder), [*arguments], printed.name))
        process.start()
        process.join()
        assert process.exitcode is not None
        lines = printed.read().strip().splitlines()
        return Finished(process.exitcode, lines, time.perf_counter() - begin)


def run_each(
    folder: Path, arguments: Sequence[str], runs: Sequence[Run], jobs: int
) -> Iterator[tuple[Run, Finished]]:
    """Collect the tests once and run them for each bug, so many at a time; as they finish."""
    receiver, sender = _SERVER.Pipe(duplex=False)
    with tempfile.NamedTemporaryFile(mode="r", errors="replace") as printed:
        given = (str(folder), [*arguments, "-s"], printed.name, (runs, jobs, sender))
        process = _SERVER.Process(target=_child, args=given)
        process.start()
        sender.close()
        for _ in runs:
            try:
                yield receiver.recv()
            except EOFError:
                raise SystemExit(f"{printed.read()[-3000:]}\nthe tests did not run") from None
        process.join()


def _child(
    folder: str, arguments: list[str], printed: str,
    forked: tuple[Sequence[Run], int, Connection] | None = None,
) -> None:  # fmt: skip
    _print_to(printed)
    os.chdir(folder)
    sys.path.insert(0, folder)
    sys.exit(pytest.main(arguments, plugins=[_ForkForEach(*forked)] if forked else []))


def _print_to(printed: str) -> None:
    descriptor = os.open(printed, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(descriptor, stream)


class _ForkForEach:
    """Once the tests are collected: a fork for each bug runs them, and this process reports."""

    def __init__(self, runs: Sequence[Run], jobs: int, reports: Connection) -> None:
        self._waiting, self._jobs, self._reports = deque(runs), jobs, reports

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool | None:
        if not session.items:
            return None
        running: dict[int, tuple[Run, str, float]] = {}
        while self._waiting or running:
            if not self._waiting or len(running) == self._jobs:
                pid, status = os.wait()
                self._report(os.waitstatus_to_exitcode(status), *running.pop(pid))
                continue
            run = self._waiting.popleft()
            handle, printed = tempfile.mkstemp()
            os.close(handle)
            os.environ["SEEDED_BUG"] = str(run.bug)
            pid = os.fork()
            if pid == 0:
                _print_to(printed)
                session.items.sort(key=run.stage)
                return None  # to pytest, which runs the items
            running[pid] = (run, printed, time.perf_counter())
        return True

    def _report(self, status: int, run: Run, printed: str, begin: float) -> None:
        lines = Path(printed).read_text(errors="replace").strip().splitlines()
        Path(printed).unlink()
        self._reports.send((run, Finished(status, lines, time.perf_counter() - begin)))
