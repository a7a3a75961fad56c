"""The CUDA kernels on the emulator without PyTorch, plain and under sanitizers.

The driver and its grid of calls are those of the CPU's kernels (tests/native): every result is held
to an evaluation in long double, every guard band and every input is looked at, and three plans and
orders of threads must give the same bits.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from emulation import FOLDER, KERNELS, ROOT, build

_NATIVE = tuple(
    ROOT / "tests" / "native" / f"{name}.cpp" for name in ("driver", "cases", "reference")
)
#: What is compiled, and how much of the grid is run: one in so many, and so many special shapes.
_RUNS = {
    "plain": ("-Itests", ("40", "18")),
    "thread": ("-Itests", ("100", "0")),  # knows each of the emulator's threads, as a fiber
    "address": ("-Itests -DCSTA_TEST_ADDRESSES", ("200", "18")),
}


@pytest.mark.slow
@pytest.mark.parametrize("mode", _RUNS)
def test_grid(mode: str, tmp_path: Path) -> None:
    options, grid = _RUNS[mode]
    program = build(tmp_path, (*KERNELS, FOLDER / "table.cpp", *_NATIVE), mode, options)
    done = subprocess.run([program, "emulated", *grid], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert len([line for line in done.stdout.splitlines() if line.startswith("PASS ")]) == 8
