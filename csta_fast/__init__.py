"""csta_fast: coupled spatial-temporal attention for skeletons, as fast as memory allows.

``CSTA`` is the layer, ``functional`` holds its three operations, ``reference`` the same in plain
PyTorch, and ``explain`` tells which backend would serve a call. ``python -m csta_fast`` checks
the installation.
"""

from __future__ import annotations

from pathlib import Path

if not (Path(__file__).parent / "kernels").exists():
    from csta_fast.checkout import load_kernels

    load_kernels()

from csta_fast import functional, reference
from csta_fast.backends import explain
from csta_fast.layer import CSTA
from csta_fast.types import Attention, HeadWeights
from csta_fast.version import __version__

__all__ = [
    "CSTA",
    "Attention",
    "HeadWeights",
    "__version__",
    "explain",
    "functional",
    "reference",
]
