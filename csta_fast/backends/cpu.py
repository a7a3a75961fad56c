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

LIBRARY = Path(__file__).parents[1] / "_cpu.abi3.so"

#: What CSTA_FAST_ISA may name.
INSTRUCTION_SETS = ("portable", "avx2", "avx512")


def misnamed() -> str | None:
    """What is wrong with CSTA_FAST_ISA, or None."""
    wanted = os.environ.get("CSTA_FAST_ISA")
    if not wanted or wanted in INSTRUCTION_SETS:
        return None
    known = ", ".join(INSTRUCTION_SETS)
    return f"CSTA_FAST_ISA: wanted one of {known}, got {wanted!r}, which chooses nothing"


def absence(library: Path, name: str, remedy: str) -> tuple[str, bool]:
    """Why there is no such library, and whether that was asked for: what the build wrote down."""
    if not library.parent.is_dir():
        return (
            f"the {name} library cannot be loaded out of an archive, and the package was imported "
            f"from {library.parent}: unpack it, or install it with pip",
            False,
        )
    for ending in ("missing", "declined"):
        record = library.parent / f"{library.name.partition('.')[0]}.{ending}"
        if record.is_file():
            reason = record.read_text(encoding="utf-8").strip()
            return f"the {name} library was not built: {reason}", ending == "declined"
    return f"the {name} library was not built: {remedy}", False


def _load() -> tuple[str | None, bool]:
    """Register the library's operators; None, or why there are none, and whether by choice."""
    mistake = misnamed()
    if mistake is not None:
        warnings.warn(mistake, stacklevel=2)
    if not LIBRARY.exists():
        return absence(
            LIBRARY, "native",
            "get a C++ compiler (Debian: apt-get install g++) and run "
            "pip install --force-reinstall --no-deps . in the sources",
        )  # fmt: skip
    try:
        torch.ops.load_library(str(LIBRARY))  # type: ignore[no-untyped-call]
    except (OSError, RuntimeError) as error:
        return (
            f"the native library could not be loaded ({error}); it needs torch 2.10 or later "
            f"(this is {torch.__version__}) on {platform.machine()}",
            False,
        )
    return None, False


#: None where the library is loaded, else one sentence that says why not and what to do.
unavailable: str | None
#: Whether there is none because CSTA_FAST_NATIVE=0 was set when the package was built.
declined: bool
unavailable, declined = _load()


def instruction_set() -> str:
    """The instruction set that the loaded kernels use: "avx512", "avx2" or "portable"."""
    if unavailable is not None:
        return "none"
    return INSTRUCTION_SETS[torch.ops.csta_fast.instruction_set()]
