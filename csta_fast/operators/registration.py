"""The operators as PyTorch knows them: schemas, fake kernels, gradients, vmap, FLOPs.

Every set of kernels has them in a namespace of its own: ``csta_fast`` holds those of the native
library (``csrc/register.cpp``), ``csta_fast_triton`` those of ``csta_fast.kernels``. Each operator
returns what its backward needs and nothing x-sized beside its result:

====================  ==========================================================
``csta``              y, frame attention, joint attention
``csta_backward``     gradients of x and of the eight weights
``pool``              frame means, joint means
``pool_backward``     gradient of x
``couple``            y, frame attention, joint attention
``couple_backward``   gradients of x and of both logits
====================  ==========================================================
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from csta_fast.operators import sharding
from csta_fast.operators.operators import Operators
from csta_fast.types import COMPUTE_DTYPES, is_channels_last, memory_format

_WEIGHTS = ", ".join(
    f"Tensor {head}_{part}" for head in ("frame", "joint") for part in ("w1", "b1", "w2", "b2")
)
_MASKS = "Tensor? lengths, Tensor? frame_mask, Tensor? joint_mask"
_CHOICES = "int gate, float? scale, bool residual"
_UPSTREAM = "Tensor? grad_y, Tensor? grad_frame_attention, Tensor? grad_joint_attention, Tensor x"
_ATTENTION = "Tensor frame_attention, Tensor joint_attention"
_LOGITS = "Tensor frame_logits, Tensor joint_logits"
_THREE = "(Tensor, Tensor, Tensor)"

SCHEMAS: dict[str, str] = {
    "csta": f"(Tensor x, {_WEIGHTS}, {_MASKS}, {_CHOICES}) -> {_THREE}",
    "csta_backward": f"({_UPSTREAM}, {_WEIGHTS}, {_ATTENTION}, {_MASKS}, {_CHOICES}, "
    f"bool input_gradient) -> ({', '.join(['Tensor'] * 9)})",
    "pool": f"(Tensor x, {_MASKS}) -> (Tensor, Tensor)",
    "pool_backward": f"(Tensor grad_frame_means, Tensor grad_joint_means, {_MASKS}, "
    "bool channels_last) -> Tensor",
    "couple": f"(Tensor x, {_LOGITS}, {_MASKS}, {_CHOICES}) -> {_THREE}",
    "couple_backward": f"({_UPSTREAM}, {_ATTENTION}, {_LOGITS}, {_MASKS}, {_CHOICES}, "
    f"bool input_gradient) -> {_THREE}",
}

#: Where a namespace of ``torch.ops`` keeps its library. PyTorch forgets an operator whose library
#: is collected, and knows one still when this package is removed from ``sys.modules``.
_LIBRARY = "csta_fast_library"


def _empty_result(x: Tensor) -> Tensor:
    """x's shape in x's memory layout: channels-last where x is, contiguous everywhere else."""
    return torch.empty_like(x, memory_format=memory_format(is_channels_last(x)))


def _empty_attention(x: Tensor, groups: int | torch.SymInt) -> tuple[Tensor, Tensor]:
    samples, _, frames, joints = x.shape
    dtype = COMPUTE_DTYPES[x.dtype]
    return x.new_empty((samples, groups, frames), dtype=dtype), x.new_empty(
        (samples, groups, joints), dtype=dtype
    )


def _fake_csta(x: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, *_: Any) -> tuple[Tensor, ...]:
    return _empty_result(x), *_empty_attention(x, w2.shape[0])


def _fake_csta_backward(
    grad_y: Tensor | None,
    grad_frames: Tensor | None,
    grad_joints: Tensor | None,
    x: Tensor,
    *rest: Any,
) -> tuple[Tensor, ...]:
    weights, input_gradient = rest[:8], rest[-1]
    grad_x = _empty_result(x) if input_gradient else x.new_empty((0,))
    return grad_x, *(weight.new_empty(weight.shape) for weight in weights)


def _fake_pool(x: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    samples, channels, frames, joints = x.shape
    return x.new_empty((samples, channels, frames)), x.new_empty((samples, channels, joints))


def _fake_pool_backward(grad_frame_means: Tensor, grad_joint_means: Tensor, *rest: Any) -> Tensor:
    channels_last = rest[-1]
    shape = (*grad_frame_means.shape, grad_joint_means.shape[2])
    return torch.empty(
        shape,
        dtype=grad_frame_means.dtype,
        device=grad_frame_means.device,
        memory_format=memory_format(channels_last),
    )


def _fake_couple(x: Tensor, frame_logits: Tensor, *_: Any) -> tuple[Tensor, ...]:
    return _empty_result(x), *_empty_attention(x, frame_logits.shape[1])


def _fake_couple_backward(
    grad_y: Tensor | None,
    grad_frames: Tensor | None,
    grad_joints: Tensor | None,
    x: Tensor,
    *rest: Any,
) -> tuple[Tensor, Tensor, Tensor]:
    frame_attention, joint_attention, input_gradient = rest[0], rest[1], rest[-1]
    grad_x = _empty_result(x) if input_gradient else x.new_empty((0,))
    return grad_x, torch.empty_like(frame_attention), torch.empty_like(joint_attention)


def _csta_flops(x: Sequence[int], *shapes: Any, **_: Any) -> int:
    """The matrix products of both heads, which is what PyTorch's counter counts of any layer."""
    samples, _channels, *lengths = x
    flops = 0
    for length, (w1, _b1, w2, _b2) in zip(lengths, (shapes[:4], shapes[4:8]), strict=True):
        flops += 2 * samples * length * (w1[0] * w1[1] + w2[0] * w2[1])
    return flops


def _csta_backward_flops(
    grad_y: Any, grad_frames: Any, grad_joints: Any, *x_and_weights: Any, **_: Any
) -> int:
    return 2 * _csta_flops(*x_and_weights)


def _no_flops(*_: Any, **__: Any) -> int:
    return 0


def _on_one_device(fake: Callable[..., Any]) -> Callable[..., Any]:
    """The fake kernel, refusing a mixture: one meta tensor among real ones would bring a call here
    and get uninitialised memory for an answer."""

    @functools.wraps(fake)
    def checked(*args: Any) -> Any:
        devices = {value.device for value in args if isinstance(value, Tensor)}
        if len(devices) > 1:
            raise RuntimeError(f"wanted all tensors on one device, got {sorted(map(str, devices))}")
        return fake(*args)

    return checked


_FAKES: dict[str, Callable[..., Any]] = {
    "csta": _fake_csta,
    "csta_backward": _fake_csta_backward,
    "pool": _fake_pool,
    "pool_backward": _fake_pool_backward,
    "couple": _fake_couple,
    "couple_backward": _fake_couple_backward,
}

_FLOPS: dict[str, Callable[..., int]] = dict.fromkeys(_FAKES, _no_flops) | {
    "csta": _csta_flops,
    "csta_backward": _csta_backward_flops,
}


def register(operators: Operators) -> torch.library.Library | None:
    """Define the operators of a namespace.

    Returns:
        The library to add kernels to; None where an earlier import of this package defined the
        operators, which serve this one too.
    """
    namespace = operators.namespace
    home = getattr(torch.ops, namespace)
    if _LIBRARY in vars(home):
        for name in SCHEMAS:
            sharding.register_later(getattr(home, name).default)
        return None
    library = torch.library.Library(namespace, "FRAGMENT")  # type: ignore[no-untyped-call]
    setattr(home, _LIBRARY, library)
    for name, schema in SCHEMAS.items():
        library.define(name + schema)  # type: ignore[no-untyped-call]
        qualified = f"{namespace}::{name}"
        torch.library.register_fake(qualified, _on_one_device(_FAKES[name]), lib=library)
        backward, setup_context = operators.rule(name)
        torch.library.register_autograd(
            qualified, backward, setup_context=setup_context, lib=library
        )
        torch.library.register_vmap(qualified, operators.loop_over_batch(name), lib=library)
        operator = getattr(home, name)
        register_flop_formula(operator)(_FLOPS[name])
        sharding.register_later(operator.default)
    return library
