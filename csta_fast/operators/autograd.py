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
from csta_fast.operators.signature import (
    COUPLE,
    COUPLE_BACKWARD,
    CSTA,
    CSTA_BACKWARD,
    POOL,
    POOL_BACKWARD,
    Logits,
    SavedAttention,
    Signature,
    Upstream,
    heads,
)
from csta_fast.types import is_channels_last


def _arranged_for(backward: Signature[Any], forward: Signature[Any]) -> Callable[[Any], Any]:
    """Arguments of a backward: from what forward saved, its choices, and what backward learns."""
    tensors, choices = forward.names[: forward.tensors], forward.names[forward.tensors :]
    return backward.arranged(
        *tensors, *SavedAttention._fields, *choices, *Upstream._fields, "input_gradient"
    )


_csta_backward_arguments = _arranged_for(CSTA_BACKWARD, CSTA)
_couple_backward_arguments = _arranged_for(COUPLE_BACKWARD, COUPLE)
_logits = COUPLE_BACKWARD.picked(*Logits._fields)


class _Csta(Function):
    @staticmethod
    def forward(*args: Any) -> Any:
        return args[-1].native("csta", *args[:-1])

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        _, *attention = output
        *inputs, ctx.operators = inputs
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*inputs[: CSTA.tensors], *attention)
        ctx.choices = inputs[CSTA.tensors :]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Any, ...]:
        wanted = ctx.needs_input_grad[0]
        given = (*ctx.saved_tensors, *ctx.choices, *grads, wanted)
        grad_x, *weights = ctx.operators.call("csta_backward", *_csta_backward_arguments(given))
        return *CSTA.padded(grad_x if wanted else None, *weights), None

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
        ctx.save_for_backward(*inputs[: CSTA_BACKWARD.tensors])
        ctx.choices = inputs[CSTA_BACKWARD.tensors :]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Any, ...]:
        inputs = CSTA_BACKWARD.unflatten((*ctx.saved_tensors, *ctx.choices))
        primals = (inputs.x, *inputs.frame_head, *inputs.joint_head)

        def forward(*primals: Any) -> tuple[Tensor, ...]:
            return composite.csta(*primals, *inputs.masks, *inputs.choices)

        of_upstream, (of_x, *weights) = vjp_of_vjp(forward, inputs.upstream, primals, grads)
        return *CSTA_BACKWARD.gradients(
            upstream=_where_given(of_upstream, inputs.upstream), x=of_x, **heads(weights)
        ), None  # fmt: skip

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
        ctx.save_for_backward(*inputs[: COUPLE.tensors], *attention)
        ctx.choices = inputs[COUPLE.tensors :]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Any, ...]:
        wanted = ctx.needs_input_grad[0]
        arguments = _couple_backward_arguments((*ctx.saved_tensors, *ctx.choices, *grads, wanted))
        grad_x, of_frames, of_joints = ctx.operators.call("couple_backward", *arguments)
        frame_logits, joint_logits = _logits(arguments)
        return *COUPLE.padded(
            grad_x if wanted else None,
            of_frames.to(frame_logits.dtype), of_joints.to(joint_logits.dtype),
        ), None  # fmt: skip

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
        ctx.save_for_backward(*inputs[: COUPLE_BACKWARD.tensors])
        ctx.choices = inputs[COUPLE_BACKWARD.tensors :]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Any, ...]:
        inputs = COUPLE_BACKWARD.unflatten((*ctx.saved_tensors, *ctx.choices))

        def forward(*primals: Any) -> tuple[Tensor, ...]:
            return composite.couple(*primals, *inputs.masks, *inputs.choices)

        of_upstream, (of_x, *of_logits) = vjp_of_vjp(
            forward, inputs.upstream, (inputs.x, *inputs.logits), grads
        )
        return *COUPLE_BACKWARD.gradients(
            upstream=_where_given(of_upstream, inputs.upstream), x=of_x, logits=of_logits
        ), None  # fmt: skip

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
            return *POOL.padded(), None
        grads = tuple(
            given.new_zeros(shape) if grad is None else grad
            for grad, shape in zip(grads, ctx.shapes, strict=True)
        )
        grad_x = ctx.operators.call("pool_backward", *grads, *ctx.saved_tensors, ctx.channels_last)
        return *POOL.padded(grad_x), None

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
        ctx.save_for_backward(*POOL_BACKWARD.unflatten(tuple(inputs)).masks)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        return *POOL_BACKWARD.padded(*ctx.operators.call("pool", *grads, *ctx.saved_tensors)), None

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
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Gradients of ``vjp(forward, primals)(cotangents)`` for the cotangents and for the primals.

    Without autocast, which rounds no first gradient either.
    """

    def first(cotangents: tuple[Tensor, ...], primals: tuple[Tensor, ...]) -> Any:
        outputs, pull_back, *_ = torch.func.vjp(forward, *primals)
        return tuple(pull_back(_filled(cotangents, outputs)))

    with reference.without_autocast(primals[0].device.type):
        given = _filled(cotangents, forward(*primals))
        outputs, pull_back, *_ = torch.func.vjp(first, given, primals)
        of_cotangents, of_primals = pull_back(_filled(upstream, outputs))
    return of_cotangents, of_primals


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
