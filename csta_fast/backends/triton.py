"""The Triton kernels as a backend: when they can serve, and what happens when they cannot.

Neither Triton nor a driver is needed to import this. The kernels are imported by the first call
that they are to serve. A kernel that does not compile is no failed call: plain PyTorch computes
that one, and the reason is remembered for the next ones.
"""

from __future__ import annotations

import importlib.util
import math
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from csta_fast import checks
from csta_fast.backends.cuda import capability_refusal
from csta_fast.kernels.plans import MOST_JOINTS, MOST_PLANE
from csta_fast.operators import composite, registration
from csta_fast.operators.operators import Operators
from csta_fast.operators.signature import (
    SIGNATURES,
    Choices,
    CoupleBackwardInputs,
    CoupleInputs,
    CstaBackwardInputs,
    CstaInputs,
    PoolBackwardInputs,
    PoolInputs,
)
from csta_fast.types import COMPUTE_DTYPES, GATE_CODES

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
    check, signature = _CHECKS[name], SIGNATURES[name]

    def run(*args: Any) -> Any:
        check(signature.unflatten(args))
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
        with _autograd_enabled():
            return getattr(composite, name)(*args)

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


@contextmanager
def _autograd_enabled() -> Iterator[None]:
    """Undo, for plain PyTorch's gradients, that the dispatcher is below its autograd layer."""
    functionality = torch._C.DispatchKey.AutogradFunctionality
    with torch._C._PreserveDispatchKeyGuard():
        torch._C._dispatch_tls_set_dispatch_key_excluded(functionality, False)
        yield


def _check_csta(inputs: CstaInputs | CstaBackwardInputs) -> None:
    x = inputs.x
    checks.heads(x, checks.features(x), inputs.frame_head, inputs.joint_head)
    checks.masks(x, *inputs.masks)
    _check_choices(inputs.choices)


def _check_couple(inputs: CoupleInputs | CoupleBackwardInputs) -> None:
    checks.features(inputs.x)
    checks.logits(inputs.x, *inputs.logits)
    checks.masks(inputs.x, *inputs.masks)
    _check_choices(inputs.choices)


def _check_pool(inputs: PoolInputs) -> None:
    checks.features(inputs.x)
    checks.masks(inputs.x, *inputs.masks)


def _check_choices(choices: Choices) -> None:
    gate, scale, _ = choices
    if gate not in GATE_CODES.values():
        raise ValueError(f"gate: wanted one of {list(GATE_CODES.values())}, got {gate}")
    if scale is not None and not math.isfinite(scale):
        raise ValueError(f"scale: wanted a finite number or None, got {scale}")


def _check_csta_backward(inputs: CstaBackwardInputs) -> None:
    _check_csta(inputs)
    _check_upstream(inputs.x, inputs.frame_head.w2.shape[0], inputs)


def _check_couple_backward(inputs: CoupleBackwardInputs) -> None:
    _check_couple(inputs)
    _check_upstream(inputs.x, inputs.logits.frame_logits.shape[1], inputs)


def _check_upstream(
    x: Tensor, groups: int, inputs: CstaBackwardInputs | CoupleBackwardInputs
) -> None:
    """The gradient of y, and the attention and its gradients, of the frames and of the joints."""
    samples, _, *lengths = x.shape
    wanted = [(samples, groups, length) for length in lengths]
    grad_y, *grad_attention = inputs.upstream
    given = [(grad_y, tuple(x.shape), x.dtype)]
    given += [
        (each, shape, COMPUTE_DTYPES[x.dtype])
        for each, shape in zip((*grad_attention, *inputs.attention), 2 * wanted, strict=True)
    ]
    for each, shape, dtype in given:
        if each is not None and (tuple(each.shape) != shape or each.dtype is not dtype):
            raise ValueError(
                f"gradients and attention: wanted shape {shape} of {dtype}, "
                f"got {tuple(each.shape)} of {each.dtype}"
            )


def _check_pool_backward(inputs: PoolBackwardInputs) -> None:
    frames, joints, masks, _ = inputs
    if frames.dim() != 3 or joints.dim() != 3 or frames.shape[:2] != joints.shape[:2]:
        raise ValueError(
            "gradients: wanted (N, C, T) and (N, C, V), "
            f"got {tuple(frames.shape)} and {tuple(joints.shape)}"
        )
    if frames.dtype not in COMPUTE_DTYPES or frames.dtype is not joints.dtype:
        raise TypeError(
            f"gradients: wanted one floating dtype, got {frames.dtype} and {joints.dtype}"
        )
    checks.masks(frames.new_empty(()).expand(*frames.shape, joints.shape[2]), *masks)


_CHECKS: dict[str, Callable[..., None]] = {
    "csta": _check_csta,
    "csta_backward": _check_csta_backward,
    "couple": _check_couple,
    "couple_backward": _check_couple_backward,
    "pool_backward": _check_pool_backward,
    "pool": _check_pool,
}


def register(operators: Operators) -> None:
    """Make the kernels PyTorch operators; they are imported when first called."""
    library = registration.register(operators)
    if library is None:
        return
    for name in SIGNATURES:
        for key in ("CUDA", "CPU") if INTERPRETED else ("CUDA",):
            library.impl(name, implementation(name), key)  # type: ignore[no-untyped-call]
