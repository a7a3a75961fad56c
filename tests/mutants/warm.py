"""Runs pytest in processes in which the costly imports are done.

Most of a short run is the start of PyTorch. A server imports it once, and is forked for every run;
what is under test, the package and its tests, every run imports for itself.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_SERVER = multiprocessing.get_context("forkserver")


@dataclass(frozen=True)
class Finished:
    """How a run of pytest ended: its status, or minus a signal; and what it printed."""

    returncode: int
    lines: list[str]


def prepare(environment: Mapping[str, str]) -> None:
    """Before the first run: the environment of all, some of which is read at a start only."""
    os.environ.update(environment)
    _SERVER.set_forkserver_preload(["torch", "triton", "pytest"])


def run_pytest(folder: Path, arguments: Sequence[str], environment: Mapping[str, str]) -> Finished:
    """Run pytest in a folder, whose modules come before those of the same name elsewhere."""
    with tempfile.NamedTemporaryFile(mode="r", errors="replace") as printed:
        process = _SERVER.Process(
            target=_child, args=(str(folder), [*arguments], dict(environment), printed.name)
        )
        process.start()
        process.join()
        assert process.exitcode is not None
        return Finished(process.exitcode, printed.read().strip().splitlines())


def _child(folder: str, arguments: list[str], environment: dict[str, str], printed: str) -> None:
    import pytest

    descriptor = os.open(printed, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(descriptor, stream)
    os.environ.update(environment)
    os.chdir(folder)
    sys.path.insert(0, folder)
    sys.exit(pytest.main(arguments))
