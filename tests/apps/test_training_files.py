"""Files of runs: whole at all times, and read without trust."""

from __future__ import annotations

import os
import random
import signal
import tempfile
import time
from pathlib import Path

import pytest

pytest.importorskip("lightning", reason="the extra 'train' is not installed")

from csta_fast.training import evaluate
from csta_fast.training.files import check_writable, sweep, write


def _write_without_end(target: Path, first: int, parts: int) -> None:
    for number in range(first, 2**40):
        write(target, number.to_bytes(8, "little") * parts)


def test_kills_leave_the_last_whole_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = "/dev/shm" if os.access("/dev/shm", os.W_OK) else str(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", other)  # another file system
    target, parts, numbers = tmp_path / "last.ckpt", 1 << 16, random.Random(0)
    last, littered = -1, 0
    for turn in range(20):
        child = os.fork()
        if child == 0:
            try:
                _write_without_end(target, turn * 10_000, parts)
            finally:
                os._exit(1)
        time.sleep(numbers.uniform(0.002, 0.04))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        littered += len(list(tmp_path.iterdir())) > 1
        sweep(tmp_path)
        assert [each.name for each in tmp_path.iterdir()] in ([], ["last.ckpt"])
        if target.exists():
            content = target.read_bytes()
            assert content == content[:8] * parts, turn
            number = int.from_bytes(content[:8], "little")
            assert number >= last, turn
            last = number
    assert last > 0
    assert littered > 0  # or no kill came while a file was being written


def test_a_write_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    target = tmp_path / "result.json"
    target.write_text("before")
    with pytest.raises(TypeError):
        write(target, 3)  # type: ignore[arg-type]
    assert [each.name for each in tmp_path.iterdir()] == ["result.json"]
    assert target.read_text() == "before"


def test_what_cannot_be_written_is_found_before_anything_is_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "deeper" / "run"):
        with pytest.raises(NotADirectoryError, match="output: wanted a folder, got a file"):
            check_writable(path)
        with pytest.raises(NotADirectoryError, match="output: wanted a folder, got a file"):
            evaluate(tmp_path / "no.ckpt", path)
    check_writable(tmp_path / "new" / "run")
    assert not (tmp_path / "new").exists()
