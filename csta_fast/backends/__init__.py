"""Who can compute a call: the backends in order of preference, and why each one would refuse.

A backend offers the three operations under their flat signatures and one question,
``refusal``. The first that does not refuse serves the call.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from csta_fast import checks
from csta_fast.backends import cpu, cuda, fallback, portable, triton
from csta_fast.operators import composite, registration
from csta_fast.operators.operators import Operators
from csta_fast.types import COMPUTE_DTYPES


@dataclass(frozen=True, slots=True)
class Backend:
    """One way to compute the three operations."""

    name: str
    description: str
    refusal: Callable[[Tensor], str | None]  # why x cannot be served here, or None
    csta: Callable[..., Any]
    pool: Callable[..., Any]
    couple: Callable[..., Any]
    validates: bool  # whether the operations refuse bad arguments themselves


def _native_refusal(x: Tensor) -> str | None:
    if cpu.unavailable is not None:
        return cpu.unavailable
    if x.device.type != "cpu":
        return f"serves CPU tensors, x is on {x.device}"
    return None if x.dtype in COMPUTE_DTYPES else f"does not compute in {x.dtype}"


def _reference_refusal(x: Tensor) -> str | None:
    return None if x.dtype in COMPUTE_DTYPES else f"does not compute in {x.dtype}"


_NO_TANGENTS = "has no forward-mode derivatives, and this is within a level of them"


def _fused(
    name: str, namespace: str, description: str, refusal: Callable[[Tensor], str | None],
    register: Callable[[Operators], Any] | None,
) -> Backend:  # fmt: skip
    """A backend of operators in a namespace of their own, registered where there are kernels."""

    def refuse(x: Tensor) -> str | None:
        return _NO_TANGENTS if forward_ad._current_level >= 0 else refusal(x)

    operators = Operators(namespace)
    if register is not None:
        register(operators)
    csta, pool, couple = (partial(operators.call, each) for each in ("csta", "pool", "couple"))
    return Backend(name, description, refuse, csta, pool, couple, validates=True)


portable.register()
_CPU = _fused(
    "cpu",
    "csta_fast",
    "fused C++ kernels, one pass over x",
    _native_refusal,
    None,  # portable.register() has
)
_CUDA = _fused(
    "cuda",
    cuda.NAMESPACE,
    "fused CUDA kernels, one pass over x",
    cuda.refusal,
    registration.register if cuda.unavailable is None else None,
)
_TRITON = _fused(
    "triton",
    triton.NAMESPACE,
    "fused Triton kernels, one pass over x",
    triton.refusal,
    triton.register if triton.unavailable is None else None,
)
_REFERENCE = Backend(
    "reference",
    "plain PyTorch, any device",
    _reference_refusal,
    composite.csta,
    composite.pool,
    composite.couple,
    validates=False,
)

#: The kernels of whatever device a traced program will run on.
_PORTABLE = replace(_CPU, name="portable", description="the kernels of x's device")

#: Every backend by name, in order of preference.
BACKENDS: dict[str, Backend] = {
    backend.name: backend for backend in (_CPU, _CUDA, _TRITON, _REFERENCE)
}


def named(name: str, source: str) -> Backend:
    """The backend of that name, which an argument or a variable of the environment gave."""
    backend = BACKENDS.get(name) if isinstance(name, str) else None
    if backend is None:
        raise ValueError(f"{source}: wanted one of {', '.join(BACKENDS)}, got {name!r}")
    return backend


#: The name in CSTA_FAST_BACKEND when the package was imported, or None.
FORCED: str | None = os.environ.get("CSTA_FAST_BACKEND") or None


def select(x: Tensor, name: str | None, *, traced: bool = False) -> Backend:
    """The backend for x: the one named here or in CSTA_FAST_BACKEND, else the first that can.

    What is traced holds the portable operators, which find their kernels when they run, unless a
    backend was named. What is traced for ONNX, which has no operators of ours, is plain PyTorch.
    """
    source = "backend"
    if name is None:
        name, source = FORCED, "CSTA_FAST_BACKEND"
    if name is None and traced and torch.onnx.is_in_onnx_export():
        return _REFERENCE
    if name is None:
        if x.is_cpu and cpu.unavailable is None and forward_ad._current_level < 0:
            return _CPU
        # What nobody can serve is checked before a call of the reference, and refused there.
        able = (backend for backend in BACKENDS.values() if backend.refusal(x) is None)
        serving = next(able, _REFERENCE)
        if serving is _REFERENCE:
            fallback.tell(x)
        return _PORTABLE if traced and serving is not _REFERENCE else serving
    backend = named(name, source)
    reason = backend.refusal(x)
    if reason is not None:
        raise ValueError(f"backend {backend.name!r} cannot serve this call: {reason}")
    return backend


def explain(x: Tensor, *, backend: str | None = None) -> str:
    """Which backend would serve x (N, C, T, V), and why each other one would not.

    Args:
        x: features, as for ``csta_fast.functional.csta``.
        backend: a backend to force, as in the call that is asked about.

    Returns:
        One line per backend, the serving one marked with an arrow.

    Raises:
        TypeError, ValueError: x is no tensor, or there is no such backend.
    """
    checks.tensor(x)
    forced = backend or FORCED
    lines, serving = [], None
    for candidate in BACKENDS.values():
        reason = candidate.refusal(x)
        if reason is None and forced not in (None, candidate.name):
            reason = f"backend {forced!r} is forced"
        if reason is None and serving is not None:
            reason = f"could, but {serving!r} comes first"
        mark = "->" if reason is None else "  "
        serving = candidate.name if reason is None else serving
        lines.append(f"{mark} {candidate.name:9} {reason or candidate.description}")
    if forced is not None:
        named(forced, "backend" if backend else "CSTA_FAST_BACKEND")
    return "\n".join(lines)
