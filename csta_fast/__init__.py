"""csta_fast: coupled spatial-temporal attention for skeletons, as fast as memory allows.

``CSTA`` is the layer, ``functional`` holds its three operations, ``reference`` the same in plain
PyTorch, and ``explain`` tells which backend would serve a call. ``python -m csta_fast`` checks
the installation.
"""

from __future__ import annotations

from csta_fast import functional, library, reference
from csta_fast.backends import explain
from csta_fast.layer import CSTA
from csta_fast.structures import Attention, HeadWeights
from csta_fast.version import __version__

if library.failure is None:
    from csta_fast import ops

    ops.register()

__all__ = [
    "CSTA",
    "Attention",
    "HeadWeights",
    "__version__",
    "explain",
    "functional",
    "reference",
]
