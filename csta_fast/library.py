"""Loads the compiled library, once, and remembers why when it cannot.

Importing the package must never fail: without the library the layer works on the reference
path, and ``csta_fast.explain`` and ``python -m csta_fast`` tell the reason kept here.
"""

from __future__ import annotations

import os
import platform
import warnings
from pathlib import Path

import torch

CPU_LIBRARY = Path(__file__).parent / "_cpu.abi3.so"

#: What CSTA_FAST_ISA may name.
INSTRUCTION_SETS = ("portable", "avx2", "avx512")


def misnamed() -> str | None:
    """What is wrong with CSTA_FAST_ISA, or None."""
    wanted = os.environ.get("CSTA_FAST_ISA")
    if not wanted or wanted in INSTRUCTION_SETS:
        return None
    known = ", ".join(INSTRUCTION_SETS)
    return f"CSTA_FAST_ISA: wanted one of {known}, got {wanted!r}, which chooses nothing"


def _load() -> str | None:
    """Register the library's operations; return None, or why there are none."""
    mistake = misnamed()
    if mistake is not None:
        warnings.warn(mistake, stacklevel=2)
    if not CPU_LIBRARY.exists():
        return (
            "the native library was not built: no C++ compiler was found at installation, or "
            "CSTA_FAST_NATIVE=0 was set; install one (Debian: apt-get install g++) and run "
            "pip install --force-reinstall --no-deps . in the sources"
        )
    try:
        torch.ops.load_library(str(CPU_LIBRARY))  # type: ignore[no-untyped-call]
    except (OSError, RuntimeError) as error:
        return (
            f"the native library could not be loaded ({error}); it needs torch 2.10 or later "
            f"(this is {torch.__version__}) on {platform.machine()}"
        )
    return None


#: None where the library is loaded, else one sentence that says why not and what to do.
failure: str | None = _load()


def instruction_set() -> str:
    """The instruction set that the loaded kernels use: "avx512", "avx2" or "portable"."""
    if failure is not None:
        return "none"
    return INSTRUCTION_SETS[torch.ops.csta_fast.instruction_set()]
