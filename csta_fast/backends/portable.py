"""``csta_fast::*``, the operators for every device: those that compiled and exported programs hold.

On the CPU the native library's kernels run, on a GPU those of the CUDA library or Triton's. Where
there are none, plain PyTorch computes, so that a program runs wherever the package is installed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from csta_fast.backends import cpu, cuda, triton
from csta_fast.operators import composite, registration
from csta_fast.operators.arguments import CHECKS
from csta_fast.operators.operators import Operators
from csta_fast.operators.signature import POOL_BACKWARD, SIGNATURES
from csta_fast.types import memory_format

OPERATORS = Operators("csta_fast")

#: Kernels for a GPU, in order of preference: when they refuse, and their operators.
_ON_GPU: tuple[tuple[Callable[[Tensor], str | None], Operators], ...] = (
    (cuda.refusal, Operators(cuda.NAMESPACE)),
    (triton.refusal, Operators(triton.NAMESPACE)),
)


def _like_x(name: str, args: tuple[Any, ...]) -> Tensor:
    """x, or where only its gradient is to be made, an empty tensor like that one."""
    if name != "pool_backward":
        x: Tensor = SIGNATURES[name].unflatten(args).x
        return x
    CHECKS[name](args)
    frames, joints, _, channels_last = POOL_BACKWARD.unflatten(args)
    shape, layout = (*frames.shape, joints.shape[2]), memory_format(channels_last)
    return torch.empty(shape, dtype=frames.dtype, device=frames.device, memory_format=layout)


def _serving(x: Tensor) -> Operators | None:
    return next((operators for refusal, operators in _ON_GPU if refusal(x) is None), None)


def on_gpu(name: str) -> Callable[..., Any]:
    """The operator of that name by the first kernels that can serve it."""
    otherwise = plain(name)

    def run(*args: Any) -> Any:
        serving = _serving(_like_x(name, args))
        return otherwise(*args) if serving is None else serving.native(name, *args)

    return run


def plain(name: str) -> Callable[..., Any]:
    """The operator of that name by plain PyTorch."""
    check, run = CHECKS[name], composite.kernel(name)

    def checked(*args: Any) -> Any:
        check(args)
        return run(*args)

    return checked


def register() -> None:
    """Define the operators, and add the kernels that the native library does not bring."""
    library = registration.register(OPERATORS)
    if library is None:
        return
    for name in SIGNATURES:
        library.impl(name, on_gpu(name), "CUDA")  # type: ignore[no-untyped-call]
        if cpu.unavailable is not None:
            library.impl(name, plain(name), "CPU")  # type: ignore[no-untyped-call]
