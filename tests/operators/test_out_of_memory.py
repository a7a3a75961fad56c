"""Out of memory is what PyTorch itself raises, whichever allocation of a call fails."""

from __future__ import annotations

import sys

import pytest
from backends import Backend
from subprocess_python import run_python


@pytest.mark.skipif(sys.platform != "linux", reason="limits memory as Linux does")
@pytest.mark.parametrize("threads", [1, 2])
def test_every_allocation_fails_as_in_pytorch(backend: Backend, threads: int) -> None:
    if backend.name not in ("cpu", "cuda-emulated") or (threads > 1 and backend.interpreted):
        pytest.skip("plain PyTorch allocates for the others; emulated threads are no threads")
    code = "import short_of_memory; short_of_memory.main('cpu', 4)"
    if backend.interpreted:  # one step: the emulator, too, needs memory
        code = "import emulation; emulation.install(); " + code.replace("cpu", backend.name)
        code = code.replace(", 4)", ", 2, steps=1)")
    process = run_python(
        code,
        OMP_NUM_THREADS=str(threads),
        MALLOC_ARENA_MAX="1",
        MALLOC_MMAP_THRESHOLD_="131072",  # freed memory goes back to the system
        MALLOC_TRIM_THRESHOLD_="131072",
    )
    assert process.stdout.endswith("all right\n"), process.stdout + process.stderr[-3000:]
