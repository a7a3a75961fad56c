"""Files of runs: whole at all times, and read without trust."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("lightning", reason="the extra 'train' is not installed")

from csta_fast.training import evaluate
from csta_fast.training.files import check_writable, write

_KILLS = """
import os, random, signal, sys, time
from pathlib import Path
from csta_fast.training.files import sweep, write

folder, parts = Path(sys.argv[1]), 1 << 16
target = folder / "last.ckpt"
numbers, last, littered = random.Random(0), -1, 0
for turn in range(40):
    child = os.fork()
    if child == 0:
        for number in range(turn * 10_000, 2**40):
            write(target, number.to_bytes(8, "little") * parts)
    time.sleep(numbers.uniform(0.002, 0.04))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    littered += len(list(folder.iterdir())) > 1
    sweep(folder)
    assert [each.name for each in folder.iterdir()] in ([], ["last.ckpt"])
    if target.exists():
        content = target.read_bytes()
        number = int.from_bytes(content[:8], "little")
        assert content == content[:8] * parts, turn
        assert number >= last, turn
        last = number
print(last, littered)
"""


def test_kills_leave_the_last_whole_file(tmp_path: Path) -> None:
    other = Path("/dev/shm") if os.access("/dev/shm", os.W_OK) else tmp_path
    done = subprocess.run(
        [sys.executable, "-c", _KILLS, str(tmp_path)],
        env=os.environ | {"TMPDIR": str(other)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    last, littered = map(int, done.stdout.split())
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
