"""Gradients of the operators, one rule each, for eager mode and for the compiler alike.

Each rule is an ``autograd.Function`` whose last argument is the ``Operators`` that are called:
every set of kernels has its operators in a namespace of its own, and the same rules. Eager calls
apply it (half the cost of what PyTorch generates); ``registration.register`` hands the same two
methods to ``torch.library.register_autograd``, which is what ``torch.compile`` and direct users of
``torch.ops`` see.

First gradients are native. Gradients of gradients differentiate the reference, so they are exact
to any order.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from csta_fast import reference
from csta_fast.operators import composite
from csta_fast.types import is_channels_last


class _Csta(Function):
    @staticmethod
    def forward(*args: Any) -> Any:
        return args[-1].native("csta", *args[:-1])

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        _, *attention = output
        *inputs, ctx.operators = inputs
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*inputs[:12], *attention)
        ctx.options = inputs[12:]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Any, ...]:
        *inputs, frame_attention, joint_attention = ctx.saved_tensors
        x, weights, masks = inputs[0], inputs[1:9], inputs[9:]
        grad_x, *grad_weights = ctx.operators.call(
            "csta_backward",
            *grads,
            x,
            *weights,
            frame_attention,
            joint_attention,
            *masks,
            *ctx.options,
            ctx.needs_input_grad[0],
        )
        return grad_x if ctx.needs_input_grad[0] else None, *grad_weights, *(None,) * 7

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *args: Any) -> Any:
        return args[-1].loop_over_batch("csta")(info, in_dims[:-1], *args[:-1])


class _CstaBackward(Function):
    @staticmethod
    def forward(*args: Any) -> Any:
        return args[-1].native("csta_backward", *args[:-1])

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        *inputs, ctx.operators = inputs
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*inputs[:17])
        ctx.options = inputs[17:]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Any, ...]:
        saved = ctx.saved_tensors
        cotangents, primals = saved[:3], saved[3:12]
        settings: tuple[Any, ...] = (*saved[14:17], *ctx.options[:3])

        def forward(*primals: Any) -> tuple[Tensor, ...]:
            return composite.csta(*primals, *settings)

        results = vjp_of_vjp(forward, cotangents, primals, grads)
        return *_where_given(results, (*cotangents, *primals)), *(None,) * 10

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *args: Any) -> Any:
        return args[-1].loop_over_batch("csta_backward")(info, in_dims[:-1], *args[:-1])


class _Couple(Function):
    @staticmethod
    def forward(*args: Any) -> Any:
        return args[-1].native("couple", *args[:-1])

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        _, *attention = output
        *inputs, ctx.operators = inputs
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*inputs[:6], *attention)
        ctx.options = inputs[6:]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Any, ...]:
        x, frame_logits, joint_logits, *masks, frame_attention, joint_attention = ctx.saved_tensors
        grad_x, grad_frame_logits, grad_joint_logits = ctx.operators.call(
            "couple_backward",
            *grads,
            x,
            frame_attention,
            joint_attention,
            frame_logits,
            joint_logits,
            *masks,
            *ctx.options,
            ctx.needs_input_grad[0],
        )
        return (
            grad_x if ctx.needs_input_grad[0] else None,
            grad_frame_logits.to(frame_logits.dtype),
            grad_joint_logits.to(joint_logits.dtype),
            *(None,) * 7,
        )

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *args: Any) -> Any:
        return args[-1].loop_over_batch("couple")(info, in_dims[:-1], *args[:-1])


class _CoupleBackward(Function):
    @staticmethod
    def forward(*args: Any) -> Any:
        return args[-1].native("couple_backward", *args[:-1])

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        *inputs, ctx.operators = inputs
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*inputs[:11])
        ctx.options = inputs[11:]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Any, ...]:
        saved = ctx.saved_tensors
        cotangents, x, logits = saved[:3], saved[3], saved[6:8]
        settings: tuple[Any, ...] = (*saved[8:11], *ctx.options[:3])

        def forward(*primals: Any) -> tuple[Tensor, ...]:
            return composite.couple(*primals, *settings)

        results = vjp_of_vjp(forward, cotangents, (x, *logits), grads)
        *of_cotangents, of_x, of_frames, of_joints = _where_given(
            results, (*cotangents, x, *logits)
        )
        return *of_cotangents, of_x, None, None, of_frames, of_joints, *(None,) * 8

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *args: Any) -> Any:
        return args[-1].loop_over_batch("couple_backward")(info, in_dims[:-1], *args[:-1])


class _Pool(Function):
    @staticmethod
    def forward(*args: Any) -> Any:
        return args[-1].native("pool", *args[:-1])

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        x, *masks, ctx.operators = inputs
        ctx.set_materialize_grads(False)  # plain zeros beside DTensors would be a mixture
        ctx.shapes = [means.shape for means in output]
        ctx.save_for_backward(*masks)
        ctx.channels_last = is_channels_last(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Any, ...]:
        given = next((grad for grad in grads if grad is not None), None)
        if given is None:
            return (None,) * 5
        grads = tuple(
            given.new_zeros(shape) if grad is None else grad
            for grad, shape in zip(grads, ctx.shapes, strict=True)
        )
        grad_x = ctx.operators.call("pool_backward", *grads, *ctx.saved_tensors, ctx.channels_last)
        return grad_x, *(None,) * 4

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *args: Any) -> Any:
        return args[-1].loop_over_batch("pool")(info, in_dims[:-1], *args[:-1])


class _PoolBackward(Function):
    """Linear in both gradients, so its own gradient is the pooling of what comes back."""

    @staticmethod
    def forward(*args: Any) -> Any:
        return args[-1].native("pool_backward", *args[:-1])

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        *inputs, ctx.operators = inputs
        ctx.save_for_backward(*inputs[2:5])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        return *ctx.operators.call("pool", *grads, *ctx.saved_tensors), *(None,) * 5

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *args: Any) -> Any:
        return args[-1].loop_over_batch("pool_backward")(info, in_dims[:-1], *args[:-1])


def _where_given(
    results: tuple[Tensor, ...], inputs: tuple[Tensor | None, ...]
) -> tuple[Tensor | None, ...]:
    return tuple(
        None if given is None else result for result, given in zip(results, inputs, strict=True)
    )


def vjp_of_vjp(
    forward: Callable[..., tuple[Tensor, ...]],
    cotangents: tuple[Tensor | None, ...],
    primals: tuple[Tensor, ...],
    upstream: tuple[Tensor | None, ...],
) -> tuple[Tensor, ...]:
    """Gradients of ``vjp(forward, primals)(cotangents)`` for cotangents and primals.

    Without autocast, which rounds no first gradient either.
    """

    def first(cotangents: tuple[Tensor, ...], primals: tuple[Tensor, ...]) -> Any:
        outputs, pull_back, *_ = torch.func.vjp(forward, *primals)
        return tuple(pull_back(_filled(cotangents, outputs)))

    with reference.without_autocast(primals[0].device.type):
        given = _filled(cotangents, forward(*primals))
        outputs, pull_back, *_ = torch.func.vjp(first, given, primals)
        of_cotangents, of_primals = pull_back(_filled(upstream, outputs))
    return *of_cotangents, *of_primals


def _filled(values: tuple[Tensor | None, ...], like: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple(
        torch.zeros_like(shape) if value is None or value.shape != shape.shape else value
        for value, shape in zip(values, like, strict=True)
    )


#: The gradient rule of every operator.
RULES: dict[str, type[Function]] = {
    "csta": _Csta,
    "csta_backward": _CstaBackward,
    "couple": _Couple,
    "couple_backward": _CoupleBackward,
    "pool": _Pool,
    "pool_backward": _PoolBackward,
}
