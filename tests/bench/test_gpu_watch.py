"""The processes of the GPU command: limits, parts of a suite, and tests that end their process."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from rich.console import Console

from bench import gpu, gpu_summary, gpu_watch, processes, shard
from bench.processes import Command
from bench.report import load
from bench.session import Session


def _python(code: str, log: str = "log.txt", limit: float = 60) -> Command:
    return Command((sys.executable, "-c", code), log, limit)


def test_processes(tmp_path: Path) -> None:
    """Output, exit status and time limit of processes that run side by side."""
    commands = [
        _python("print('fine')", "0.txt"),
        _python("import sys; print('words', flush=True); sys.exit('bad')", "1.txt"),
        _python("import time; time.sleep(60)", "2.txt", limit=1),
    ]
    started = time.monotonic()
    fine, bad, slow = processes.run("test", commands, tmp_path, tmp_path, Console(stderr=True))
    assert time.monotonic() - started < 50
    assert (fine.status, fine.last_line, fine.red) == (0, "fine", False)
    assert (bad.status, bad.last_line, bad.red) == (1, "bad", True)
    assert (slow.status, slow.last_line, slow.red) == (None, "", True)


class _Item:
    """A test that has a number, of which the even ones are quick."""

    def __init__(self, number: int) -> None:
        self.number = number

    def get_closest_marker(self, name: str) -> str | None:
        return name if self.number % 2 == 0 else None


def test_shards_hold_every_test_once_and_the_quick_ones_first() -> None:
    class Hook:
        def pytest_deselected(self, items: list[Any]) -> None: ...

    class Config:
        hook = Hook()

        def __init__(self, text: str) -> None:
            self.shard = shard._part(text)

        def getoption(self, name: str) -> tuple[int, int]:
            return self.shard

    kept = []
    for part in (1, 2, 3):
        items: list[Any] = [_Item(number) for number in range(10)]
        shard.pytest_collection_modifyitems(Config(f"{part}/3"), items)  # type: ignore[arg-type]
        numbers = [item.number for item in items]
        assert numbers == sorted(numbers, key=lambda number: number % 2)
        assert numbers[0] % 2 == 0
        kept += numbers
    assert sorted(kept) == list(range(10))
    with pytest.raises(ValueError, match="4/3"):
        shard._part("4/3")


_ENDINGS = """
import os, time
def test_right(): pass
def test_wrong(): assert 9 == 10, "nine is\\nnot ten"
def test_crash(): os.kill(os.getpid(), 11)
def test_hang(): time.sleep(60)
def test_right_again(): pass
"""


def test_gpu_watch_goes_on_behind_what_ends_a_process(tmp_path: Path) -> None:
    (tmp_path / "test_endings.py").write_text(_ENDINGS)
    words = ("bench.gpu_watch", str(tmp_path), "-v", "--no-summary", "--longest-test=8")
    command = Command((sys.executable, "-m", *words, "-p", "no:cacheprovider"), "log.txt", 60)
    repository = Path(gpu.__file__).parents[1]
    (ended,) = processes.run("test", [command], tmp_path, repository, Console(stderr=True))
    red = [line for line in ended.output.splitlines() if line.startswith("RED ")]
    assert [line.partition("::")[2] for line in red] == [
        "test_wrong: AssertionError: nine is not ten assert 9 == 10",
        "test_crash: its process was ended by SIGSEGV",
        "test_hang: its process was ended for it took too long",
    ]
    assert ended.status == 1
    assert "1 passed" in ended.last_line
    assert gpu_summary.tests("first", [ended]).note.startswith("1 passed; first of 3 red: ")


def test_gpu_watch_ends_a_process_that_has_lost_its_gpu(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def lost() -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    assert gpu_watch._gpu_answers()
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "synchronize", lost)
    assert not gpu_watch._gpu_answers()


def test_gpu_figures_are_kept_as_they_come(tmp_path: Path, pytestconfig: pytest.Config) -> None:
    """A run that is stopped leaves what a report can be made of."""
    session = Session(pytestconfig)
    session.results = tmp_path / "folder" / "results.json"
    session.device = SimpleNamespace(describe=lambda _: {"gpu": "a pretended GPU"})  # type: ignore[assignment]
    for number in (1, 2):
        session.keep({"section": "gpu", "variant": f"{number}", "median_seconds": 1.0})
        (chapter,) = load([session.results])
        assert len(chapter.rows) == number
    assert chapter.title == "a pretended GPU"
    assert [row["variant"] for row in chapter.rows.values()] == ["1", "2"]
