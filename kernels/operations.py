"""The six operators on a GPU, with the flat signatures of ``csta_fast.operators.signature``.

Each allocates its results and the buffers between its stages, and launches x into a pipeline on the
current stream of its device. No call synchronises.
"""

from __future__ import annotations

from typing import Any

import torch
from csta_fast.kernels import means, pipeline, plans, weights
from csta_fast.kernels.call import ARITHMETIC, Call, inner_block
from csta_fast.kernels.structures import AxisGradients, AxisTensors, HeadTensors
from torch import Tensor

from csta_fast.operators.signature import (
    COUPLE,
    COUPLE_BACKWARD,
    CSTA,
    CSTA_BACKWARD,
    POOL,
    POOL_BACKWARD,
    CoupleBackwardInputs,
    CstaBackwardInputs,
    CstaInputs,
)
from csta_fast.types import memory_format

#: Most runs of samples in the weights' gradients.
_MOST_RUNS = 64
_ADDED = 256  # elements per program that adds the runs


def csta(*args: Any) -> tuple[Tensor, Tensor, Tensor]:
    inputs = CSTA.unflatten(args)
    heads = _contiguous(inputs)
    call = Call(inputs.x, heads[0].w2.shape[0], inputs.masks)
    widths = heads[0].w1.shape[0], heads[1].w1.shape[0]
    plan, channels, groups = call.plan, call.channels, call.groups
    frames, joints = (
        AxisTensors(
            call.buffer(partials, channels, length), call.buffer(width, length),
            call.buffer(groups, length), call.buffer(groups, length),
        )
        for partials, width, length in _axes(call, widths)
    )  # fmt: skip
    y = call.like_x(inputs.x)
    items = (plan.tile_items, plan.head_items, plan.gate_items, plan.flat_items)
    if call.samples:
        call.launch(
            pipeline.forward_kernel, False,
            (call.x, y, frames, joints, *heads), items, widths, inputs.choices,
            FLAT_P=plan.flat_p, ALIGNED=plan.aligned,
        )  # fmt: skip
    return y, frames.attention, joints.attention


def _contiguous(inputs: CstaInputs | CstaBackwardInputs) -> tuple[HeadTensors, HeadTensors]:
    frame_head, joint_head = (
        HeadTensors(*(weight.contiguous() for weight in head))
        for head in (inputs.frame_head, inputs.joint_head)
    )
    return frame_head, joint_head


def _axes(call: Call, widths: tuple[int, int]) -> tuple[tuple[int, int, int], ...]:
    """Parts of the sums, width of the head and length, of the frames and of the joints."""
    return (1, widths[0], call.frames), (call.plan.frame_slices, widths[1], call.joints)


def couple(*args: Any) -> tuple[Tensor, Tensor, Tensor]:
    inputs = COUPLE.unflatten(args)
    call = Call(inputs.x, inputs.logits.frame_logits.shape[1], inputs.masks)
    frames, joints = (
        AxisTensors(None, None, logits.contiguous(), call.buffer(call.groups, logits.shape[2]))
        for logits in inputs.logits
    )
    y = call.like_x(inputs.x)
    items = (0, 0, call.plan.gate_items, call.plan.flat_items)
    if call.samples:
        call.launch(
            pipeline.forward_kernel, False,
            (call.x, y, frames, joints, None, None), items, (1, 1), inputs.choices,
            FLAT_P=call.plan.flat_p, ALIGNED=call.plan.aligned,
        )  # fmt: skip
    return y, frames.attention, joints.attention


def csta_backward(*args: Any) -> tuple[Tensor, ...]:
    inputs = CSTA_BACKWARD.unflatten(args)
    heads = _contiguous(inputs)
    call = Call(inputs.x, heads[0].w2.shape[0], inputs.masks, passes=2)
    widths = heads[0].w1.shape[0], heads[1].w1.shape[0]
    axes = _axes(call, widths)
    frames, joints = (
        AxisTensors(
            call.buffer(partials, call.channels, length), call.buffer(width, length), None,
            given.contiguous(),
        )
        for given, (partials, width, length) in zip(inputs.attention, axes, strict=True)
    )  # fmt: skip
    grad_y, *grad_attention = inputs.upstream
    gradients = tuple(
        _gradients(call, grad_y, upstream, partials, length, width)
        for upstream, (partials, width, length) in zip(grad_attention, axes, strict=True)
    )
    grad_x = _backward(call, inputs, (frames, joints), heads, gradients, widths)
    return grad_x, *_weight_gradients(call, heads, (frames, joints), gradients)


def couple_backward(*args: Any) -> tuple[Tensor, Tensor, Tensor]:
    inputs = COUPLE_BACKWARD.unflatten(args)
    call = Call(inputs.x, inputs.attention.frame_attention.shape[1], inputs.masks, passes=2)
    axes = tuple(AxisTensors(None, None, None, given.contiguous()) for given in inputs.attention)
    grad_y, *grad_attention = inputs.upstream
    gradients = tuple(
        _gradients(call, grad_y, upstream, partials, length, None)
        for upstream, (partials, _, length) in zip(grad_attention, _axes(call, (1, 1)), strict=True)
    )
    grad_x = _backward(call, inputs, axes, (None, None), gradients, (1, 1))
    return grad_x, gradients[0].logits, gradients[1].logits


def _gradients(
    call: Call, grad_y: Tensor | None, upstream: Tensor | None, partials: int, length: int,
    width: int | None,
) -> AxisGradients:  # fmt: skip
    """Buffers for the gradients of an axis, and of its head if it has a width.

    Without any upstream gradient they are zeros, which no kernel writes.
    """
    correlation = None if grad_y is None else call.buffer(call.plan.rows, partials, length)
    upstream = None if upstream is None else upstream.contiguous()
    reached = correlation is not None or upstream is not None
    logits = call.buffer(call.groups, length)
    if not reached:
        logits.zero_()
    if width is None:
        return AxisGradients(correlation, upstream, logits, None, None, None)
    hidden, means, pooled = (call.buffer(rows, length) for rows in (width, *(call.channels,) * 2))
    if not reached:
        means.zero_()
    return AxisGradients(correlation, upstream, logits, hidden, means, pooled)


def _backward(
    call: Call, inputs: CstaBackwardInputs | CoupleBackwardInputs, axes: tuple[AxisTensors, ...],
    heads: tuple[Any, Any], gradients: tuple[AxisGradients, ...], widths: tuple[int, int],
) -> Tensor:  # fmt: skip
    """Launch the pipeline of backward; the gradient of x, empty if it is not wanted."""
    grad_y, wanted, plan = inputs.upstream.grad_y, inputs.input_gradient, call.plan
    grad_x = call.like_x(inputs.x) if wanted else None
    items = (plan.tile_items, plan.gate_items, 0 if heads[0] is None else plan.head_items,
             plan.tile_items if wanted else 0)  # fmt: skip
    if call.samples:
        grad_y = None if grad_y is None else call.in_layout(grad_y)
        tensors = (call.x, grad_y, grad_x, *axes, *heads, *gradients)
        call.launch(pipeline.backward_kernel, True, tensors, items, widths, inputs.choices)
    return inputs.x.new_empty((0,)) if grad_x is None else grad_x


def _weight_gradients(
    call: Call, heads: tuple[HeadTensors, ...], axes: tuple[AxisTensors, ...],
    gradients: tuple[AxisGradients, ...],
) -> list[Tensor]:  # fmt: skip
    """Gradients of w1, b1, w2, b2 of both heads: one launch sums runs, one adds the runs."""
    results = [torch.empty_like(weight) for head in heads for weight in head]
    if not call.samples:
        return [result.zero_() for result in results]
    per_run = plans.ceil_div(call.samples, _MOST_RUNS)
    runs = plans.ceil_div(call.samples, per_run)
    outers = []
    for axis, gradient in zip(axes, gradients, strict=True):
        for left, right in ((gradient.hidden, gradient.pooled), (gradient.logits, axis.hidden)):
            rows, columns = left.shape[1], right.shape[1]
            partials = left.new_empty((runs, rows, columns + 1))
            outers.append(weights.Outer(left, right, partials))
    numbers = [size for outer in outers for size in (outer.left.shape[1], outer.right.shape[1])]
    arithmetic = ARITHMETIC[call.arithmetic]
    blocks = sum(plans.ceil_div(outer.left.shape[1], weights.BLOCK_I)
                 * plans.ceil_div(outer.right.shape[1] + 1, weights.BLOCK_J)
                 for outer in outers)  # fmt: skip
    weights.outer_kernel[(blocks, runs)](
        *outers, *numbers, call.frames, call.joints, call.samples, per_run,
        BLOCK_I=weights.BLOCK_I, BLOCK_J=weights.BLOCK_J, BLOCK_P=inner_block(),
        ARITHMETIC=arithmetic, num_warps=plans.WARPS,
    )  # fmt: skip
    totals = [
        weights.Total(outer.partials, matrix, vector)
        for outer, matrix, vector in zip(outers, results[::2], results[1::2], strict=True)
    ]
    blocks = sum(plans.ceil_div(outer.partials[0].numel(), _ADDED) for outer in outers)
    weights.add_runs_kernel[(blocks,)](
        *totals, *numbers, runs, BLOCK=_ADDED, ARITHMETIC=arithmetic, num_warps=plans.WARPS
    )
    for gradient, of_head in zip(gradients, (results[:4], results[4:]), strict=True):
        if gradient.correlation is None and gradient.upstream is None:
            for result in of_head:
                result.zero_()
    return results


def pool(*args: Any) -> tuple[Tensor, Tensor]:
    x, masks = POOL.unflatten(args)
    call = Call(x, 1, masks)
    plan = call.plan
    results = tuple(
        x.new_empty((call.samples, call.channels, length)) for length in (call.frames, call.joints)
    )
    if call.samples:
        sums = tuple(
            call.buffer(partials, call.channels, length)
            for partials, _, length in _axes(call, (1, 1))
        )
        numbers = (call.channels, call.frames, call.joints, call.joint_stride, plan.slice_frames)
        arithmetic = ARITHMETIC[call.arithmetic]
        if plan.tile_items:
            means.pool_kernel[(call.samples * plan.tile_items,)](
                call.x, *sums, call.masks, *numbers, plan.tile_items,
                BLOCK_C=plan.block_c, BLOCK_T=plan.block_t, BLOCK_V=plan.block_v,
                CHANNELS_LAST=call.channels_last,
                ARITHMETIC=arithmetic, **call.threads(backward=False),
            )  # fmt: skip
        means.means_kernel[(call.samples, plans.ceil_div(call.channels, plans.BLOCK_K))](
            *sums, *results, call.masks, *numbers, BLOCK_V=plan.block_v, BLOCK_K=plans.BLOCK_K,
            BLOCK_P=plans.BLOCK_P, ARITHMETIC=arithmetic, num_warps=plans.WARPS,
        )  # fmt: skip
    return results


def pool_backward(*args: Any) -> Tensor:
    frame_means, joint_means, masks, channels_last = POOL_BACKWARD.unflatten(args)
    grad_x = torch.empty(
        (*frame_means.shape, joint_means.shape[2]), dtype=frame_means.dtype,
        device=frame_means.device, memory_format=memory_format(channels_last),
    )  # fmt: skip
    call = Call(grad_x, 1, masks)
    plan = call.plan
    if grad_x.numel():
        means.pool_backward_kernel[(call.samples * plan.tile_items,)](
            frame_means.contiguous(), joint_means.contiguous(), grad_x, call.masks,
            call.channels, call.frames, call.joints, call.joint_stride, plan.slice_frames,
            plan.tile_items, BLOCK_C=plan.block_c, BLOCK_T=plan.block_t, BLOCK_V=plan.block_v,
            CHANNELS_LAST=call.channels_last, ARITHMETIC=ARITHMETIC[call.arithmetic],
            **call.threads(backward=True),
        )  # fmt: skip
    return grad_x
