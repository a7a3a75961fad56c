"""The operators as PyTorch knows them: schemas, fake kernels, gradients, vmap, FLOPs.

``csta_fast`` holds them for every device; each set of kernels for a GPU has them in a namespace of
its own as well, which eager calls and forced backends call at once. Each operator returns what its
backward needs and nothing x-sized beside its result:

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
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from csta_fast.operators import sharding
from csta_fast.operators.operators import Operators
from csta_fast.operators.signature import (
    COUPLE,
    COUPLE_BACKWARD,
    CSTA,
    CSTA_BACKWARD,
    POOL,
    POOL_BACKWARD,
    SIGNATURES,
)
from csta_fast.types import COMPUTE_DTYPES, is_channels_last, memory_format

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


def _fake_csta(*args: Any) -> tuple[Tensor, ...]:
    inputs = CSTA.unflatten(args)
    return _empty_result(inputs.x), *_empty_attention(inputs.x, inputs.frame_head.w2.shape[0])


def _fake_csta_backward(*args: Any) -> tuple[Tensor, ...]:
    inputs = CSTA_BACKWARD.unflatten(args)
    weights = (*inputs.frame_head, *inputs.joint_head)
    grad_x = _empty_gradient(inputs.x, inputs.input_gradient)
    return grad_x, *(weight.new_empty(weight.shape) for weight in weights)


def _empty_gradient(x: Tensor, wanted: bool) -> Tensor:
    return _empty_result(x) if wanted else x.new_empty((0,))


def _fake_pool(*args: Any) -> tuple[Tensor, Tensor]:
    x = POOL.unflatten(args).x
    samples, channels, frames, joints = x.shape
    return x.new_empty((samples, channels, frames)), x.new_empty((samples, channels, joints))


def _fake_pool_backward(*args: Any) -> Tensor:
    frames, joints, _, channels_last = POOL_BACKWARD.unflatten(args)
    return torch.empty(
        (*frames.shape, joints.shape[2]),
        dtype=frames.dtype,
        device=frames.device,
        memory_format=memory_format(channels_last),
    )


def _fake_couple(*args: Any) -> tuple[Tensor, ...]:
    inputs = COUPLE.unflatten(args)
    groups = inputs.logits.frame_logits.shape[1]
    return _empty_result(inputs.x), *_empty_attention(inputs.x, groups)


def _fake_couple_backward(*args: Any) -> tuple[Tensor, ...]:
    inputs = COUPLE_BACKWARD.unflatten(args)
    grad_x = _empty_gradient(inputs.x, inputs.input_gradient)
    return grad_x, *map(torch.empty_like, inputs.attention)


def _csta_flops(*shapes: Any, **_: Any) -> int:
    inputs = CSTA.unflatten(shapes)
    return _head_flops(inputs.x, inputs.frame_head, inputs.joint_head)


def _csta_backward_flops(*shapes: Any, **_: Any) -> int:
    inputs = CSTA_BACKWARD.unflatten(shapes)
    return 2 * _head_flops(inputs.x, inputs.frame_head, inputs.joint_head)


def _head_flops(x: Any, *heads: Any) -> int:
    """The matrix products of both heads, which is what PyTorch's counter counts of any layer."""
    samples, _channels, *lengths = x
    flops = 0
    for length, (w1, _b1, w2, _b2) in zip(lengths, heads, strict=True):
        flops += 2 * samples * length * (w1[0] * w1[1] + w2[0] * w2[1])
    return flops


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
        for name in SIGNATURES:
            sharding.register_later(getattr(home, name).default)
        return None
    library = torch.library.Library(namespace, "FRAGMENT")  # type: ignore[no-untyped-call]
    setattr(home, _LIBRARY, library)
    for name, signature in SIGNATURES.items():
        library.define(name + signature.schema)  # type: ignore[no-untyped-call]
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
