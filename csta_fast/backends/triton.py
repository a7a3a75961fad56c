"""The Triton kernels as a backend: when they can serve, and what happens when they cannot.

Neither Triton nor a driver is needed to import this. The kernels are imported by the first call
that they are to serve. A kernel that does not compile is no failed call: plain PyTorch computes
that one, and the reason is remembered for the next ones.
"""

from __future__ import annotations

import importlib.util
import os
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from csta_fast.backends.cuda import capability_refusal
from csta_fast.kernels.plans import MOST_JOINTS, MOST_PLANE
from csta_fast.operators import composite, registration
from csta_fast.operators.arguments import CHECKS
from csta_fast.operators.operators import Operators
from csta_fast.operators.signature import SIGNATURES
from csta_fast.types import COMPUTE_DTYPES

NAMESPACE = "csta_fast_triton"

#: Whether Triton runs its kernels in Python, on any device: its own switch, read as it reads it.
INTERPRETED: bool = os.environ.get("TRITON_INTERPRET") == "1"

#: None, or why the kernels do not serve: there is no Triton, or they could not be compiled here.
unavailable: str | None = (
    None
    if importlib.util.find_spec("triton")
    else "Triton is not installed; it comes with PyTorch for GPUs (pip install triton)"
)


def _device_refusal(device: torch.device) -> str | None:
    if device.type != "cuda":
        return f"serves GPU tensors, x is on {device}"
    return capability_refusal(device) if torch.version.hip is None else None


def refusal(x: Tensor) -> str | None:
    """Why x cannot be served here, or None."""
    if x.dtype not in COMPUTE_DTYPES:
        return f"does not compute in {x.dtype}"
    here = INTERPRETED and x.is_cpu
    reason = unavailable or (None if here else _device_refusal(x.device))
    # A limit would confine sizes that are exported as dynamic.
    if reason is None and x.dim() == 4 and not torch.compiler.is_exporting():
        _, _, frames, joints = x.shape
        if joints > MOST_JOINTS:
            return f"takes up to {MOST_JOINTS} joints, x has {joints}"
        if frames * joints > MOST_PLANE:
            return f"takes planes of up to {MOST_PLANE} positions, x has {frames * joints}"
    return reason


def implementation(name: str) -> Callable[..., Any]:
    """The operator as PyTorch's dispatcher calls it: checked, launched, or computed plainly."""
    check, plain = CHECKS[name], composite.kernel(name)

    def run(*args: Any) -> Any:
        check(args)
        if unavailable is None:
            try:
                from csta_fast.kernels import operations

                tensor = next(each for each in args if each is not None)
                with torch.cuda.device_of(tensor):  # type: ignore[no-untyped-call]
                    return getattr(operations, name)(*args)
            except Exception as error:
                if not _is_compilation_failure(error):
                    raise
                _remember(error)
        return plain(*args)

    return run


def _is_compilation_failure(error: Exception) -> bool:
    """Whether Triton could not make a kernel, as opposed to a kernel or a call that went wrong."""
    from triton.errors import TritonError

    return isinstance(error, TritonError) or "C compiler" in str(error)


def _remember(error: Exception) -> None:
    global unavailable
    first_line = str(error).strip().partition("\n")[0]
    unavailable = f"its kernels could not be compiled here ({type(error).__name__}: {first_line})"
    warnings.warn(
        f"csta_fast: backend 'triton' does not serve any more: {unavailable}", stacklevel=2
    )


def register(operators: Operators) -> None:
    """Make the kernels PyTorch operators; they are imported when first called."""
    library = registration.register(operators)
    if library is None:
        return
    for name in SIGNATURES:
        for key in ("CUDA", "CPU") if INTERPRETED else ("CUDA",):
            library.impl(name, implementation(name), key)  # type: ignore[no-untyped-call]
