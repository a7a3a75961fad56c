"""Says, once, that plain PyTorch serves for want of a library, and what to do about it."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor
from torch.autograd import forward_ad

from csta_fast import cuda_backend, library, triton_backend
from csta_fast.cuda_backend import constant_to_the_compiler
from csta_fast.structures import ARITHMETIC_DTYPES

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
    if x.dtype not in ARITHMETIC_DTYPES or forward_ad._current_level >= 0:
        return None
    if x.device.type == "cpu" and not library.declined:
        return library.failure
    nvidia = x.device.type == "cuda" and torch.version.cuda is not None
    if nvidia and not cuda_backend.DECLINED and cuda_backend.capability_refusal(x.device) is None:
        return cuda_backend.FAILURE and (
            f"{cuda_backend.FAILURE}; nor does Triton serve: {triton_backend.refusal(x)}"
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
