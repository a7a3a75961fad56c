"""Makes the allocator keep its memory, so that benches measure kernels and not page faults.

glibc gives every large tensor fresh pages from the kernel and returns them when it is freed; the
faults of writing y anew cost several times what the layer does. These variables keep freed memory
in the heap. They are read when a process starts, hence the restart.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

_GIBIBYTE = 2**30

#: What glibc reads at the start of a process. Not together with HUGE_PAGES: PyTorch then asks for
#: aligned pieces that the kept ones seldom fit, and the heap falls apart.
WARM_HEAP = {
    "MALLOC_MMAP_MAX_": "0",  # large tensors come from the heap too
    "MALLOC_TRIM_THRESHOLD_": str(1024 * _GIBIBYTE),  # and the heap never shrinks
    "MALLOC_TOP_PAD_": str(_GIBIBYTE // 4),  # and grows in few steps
}
#: What PyTorch reads.
HUGE_PAGES = {"THP_MEM_ALLOC_ENABLE": "1"}


def is_set(environment: Mapping[str, str] = os.environ) -> bool:
    return all(name in environment for name in WARM_HEAP)


def describe(environment: Mapping[str, str] = os.environ) -> str:
    """The allocator settings in force, for the machine block."""
    if "LD_PRELOAD" in environment:
        return "an allocator preloaded by the user"
    names = WARM_HEAP | HUGE_PAGES
    settings = [f"{name}={environment[name]}" for name in names if name in environment]
    return " ".join(settings) or "default"


def restart_with_warm_heap() -> None:
    """Replace this process by itself under WARM_HEAP; values that the user has set stay."""
    environment = WARM_HEAP | os.environ
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)
