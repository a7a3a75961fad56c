"""The emulator on which the CUDA kernels run without a GPU: what it computes, what it refuses."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from emulation import FOLDER, build

RIGHT = ("neighbour", "butterfly", "peers", "bulk", "ring", "copies_of_16")
RACES = ("missing_barrier", "missing_wait", "peer_that_left", "stale_peer")


def _build(folder: Path, mode: str) -> Path:
    return build(folder, (FOLDER / "emulator_cases.cpp",), mode)


def _run(program: Path, *names: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([program, *names], capture_output=True, text=True, check=False)


def test_right_kernels_compute_and_wrong_ones_are_refused(tmp_path: Path) -> None:
    done = _run(_build(tmp_path, "plain"))
    lines = done.stdout.splitlines()
    assert [line for line in lines if not line.startswith("PASS ")] == []
    assert len(lines) == 35
    assert done.returncode == 0


@pytest.mark.slow
def test_address_sanitizer_knows_shared_memory(tmp_path: Path) -> None:
    program = _build(tmp_path, "address")
    done = _run(program, *RIGHT)
    assert done.returncode == 0, done.stderr[-2000:]
    for name in ("overrun", "stale_peer"):
        assert "use-after-poison" in _run(program, name).stderr, name


@pytest.mark.slow
def test_thread_sanitizer_finds_races(tmp_path: Path) -> None:
    program = _build(tmp_path, "thread")
    done = _run(program, *RIGHT)
    assert done.returncode == 0, done.stderr[-2000:]
    for name in RACES:
        assert "data race" in _run(program, name).stderr, name
