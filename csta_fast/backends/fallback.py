"""Says, once, that plain PyTorch serves for want of a library, and what to do about it."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor
from torch.autograd import forward_ad

from csta_fast.backends import cpu, cuda, triton
from csta_fast.compiler import constant_to_the_compiler
from csta_fast.types import COMPUTE_DTYPES

_warned = False


def tell(x: Tensor) -> None:
    """Warn if x is served by plain PyTorch only because a library is missing that nobody declined.

    At the first such call of a process, also where a compiler traces it.
    """
    reason = None if _warned else _missing(x)
    if reason is not None:
        _warn(reason)


def _missing(x: Tensor) -> str | None:
    """Why the library that would have served x is not here, or None."""
    if x.dtype not in COMPUTE_DTYPES or forward_ad._current_level >= 0:
        return None
    if x.device.type == "cpu" and not cpu.declined:
        return cpu.unavailable
    nvidia = x.device.type == "cuda" and torch.version.cuda is not None
    if nvidia and not cuda.declined and cuda.capability_refusal(x.device) is None:
        return cuda.unavailable and (
            f"{cuda.unavailable}; nor does Triton serve: {triton.refusal(x)}"
        )
    return None


@constant_to_the_compiler
def _warn(reason: str) -> None:
    global _warned
    if _warned:
        return
    _warned = True
    warnings.warn(
        f"csta_fast: plain PyTorch serves, several times slower than the kernels: {reason}. "
        "To silence this, set CSTA_FAST_BACKEND=reference, or "
        "warnings.filterwarnings('ignore', 'csta_fast: plain PyTorch')",
        stacklevel=2,
    )
