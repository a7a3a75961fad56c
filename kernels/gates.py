"""Stages from logits to attention, and back; an item is a block of rows of one axis.

Rows are walked in blocks of positions, so that no length T needs a compilation of its own.
"""

import triton
import triton.language as tl
from csta_fast.kernels.positions import (
    is_reached,
    scale_of,
    valid_counts,
    valid_frames,
    valid_joints,
)

_LOG2_E = tl.constexpr(1.4426950408889634)
_LN2_HIGH = tl.constexpr(0.693145751953125)  # the upper bits of ln 2: n times it is exact
_LN2_LOW = tl.constexpr(1.42860682030941723212e-6)
_SMALLEST = tl.constexpr(-104.0)  # its float32 exponential is 0


@triton.jit
def exponential(x):
    """e^x for x ≤ 0, range-reduced: the error of the hardware's exponential grows with |x|."""
    if x.dtype == tl.float64:
        return tl.exp(x)
    else:
        bounded = tl.where(x < _SMALLEST, _SMALLEST, x)
        whole = tl.floor(bounded * _LOG2_E + 0.5)
        rest = (bounded - whole * _LN2_HIGH) - whole * _LN2_LOW
        half = tl.floor(whole * 0.5)  # 2^whole alone may be too small for a normal number
        return tl.exp(rest) * tl.exp2(half) * tl.exp2(whole - half)


@triton.jit
def sigmoid(x):
    small = exponential(-tl.abs(x))
    return tl.where(x >= 0, 1 / (1 + small), tl.where(x < 0, small / (1 + small), x))


@triton.jit
def gate_item(
    frames,  # Axis; reads logits, writes attention
    joints,  # Axis; reads logits, writes attention
    sizes,
    masks,
    sample,
    item,
    BLOCK_V: tl.constexpr,
    BLOCK_R: tl.constexpr,
    BLOCK_L: tl.constexpr,
    SOFTMAX: tl.constexpr,
    ARITHMETIC: tl.constexpr,
):
    """Attention from logits, for a block of groups: frames in even items, joints in odd ones."""
    limit, _, joint_count = valid_counts(sizes, masks, sample, BLOCK_V)
    group = (item // 2) * BLOCK_R + tl.arange(0, BLOCK_R)
    if item % 2 == 0:
        _gate_axis(frames, 0, sizes, masks, sample, group, limit,
                   BLOCK_R, BLOCK_L, SOFTMAX, ARITHMETIC)  # fmt: skip
    else:
        _gate_axis(joints, 1, sizes, masks, sample, group, joint_count,
                   BLOCK_R, BLOCK_L, SOFTMAX, ARITHMETIC)  # fmt: skip


@triton.jit
def _valid(sizes, masks, sample, at, bound, JOINTS: tl.constexpr):
    if JOINTS:
        return valid_joints(sizes, masks, sample, at, bound)
    else:
        return valid_frames(sizes, masks, sample, at, bound)


@triton.jit
def _gate_axis(
    axis, JOINTS: tl.constexpr, sizes, masks, sample, group, bound,
    BLOCK_R: tl.constexpr, BLOCK_L: tl.constexpr, SOFTMAX: tl.constexpr, ARITHMETIC: tl.constexpr
):  # fmt: skip
    groups, length = sizes.groups, axis.length
    start_of_row = (sample.to(tl.int64) * groups + group)[:, None] * length
    largest = tl.full([BLOCK_R], float("-inf"), ARITHMETIC)
    total = tl.zeros([BLOCK_R], ARITHMETIC)
    if SOFTMAX:
        for start in range(0, length, BLOCK_L):
            at = start + tl.arange(0, BLOCK_L)
            valid = (group < groups)[:, None] & _valid(sizes, masks, sample, at, bound, JOINTS)[
                None, :
            ]
            pointers = axis.logits + start_of_row + at[None, :]
            logits = tl.load(pointers, mask=valid, other=float("-inf")).to(ARITHMETIC)
            largest = tl.maximum(largest, tl.max(logits, 1))
        for start in range(0, length, BLOCK_L):
            at = start + tl.arange(0, BLOCK_L)
            valid = (group < groups)[:, None] & _valid(sizes, masks, sample, at, bound, JOINTS)[
                None, :
            ]
            pointers = axis.logits + start_of_row + at[None, :]
            logits = tl.load(pointers, mask=valid, other=0).to(ARITHMETIC)
            shifted = exponential(tl.where(valid, logits - largest[:, None], 0))
            total += tl.sum(tl.where(valid, shifted, 0), 1)
    for start in range(0, length, BLOCK_L):
        at = start + tl.arange(0, BLOCK_L)
        inside = (group < groups)[:, None] & (at < length)[None, :]
        valid = inside & _valid(sizes, masks, sample, at, bound, JOINTS)[None, :]
        pointers = start_of_row + at[None, :]
        logits = tl.load(axis.logits + pointers, mask=valid, other=0).to(ARITHMETIC)
        if SOFTMAX:
            shifted = tl.where(valid, logits - largest[:, None], 0)
            attention = exponential(shifted) / total[:, None]
        else:
            attention = sigmoid(logits)
        tl.store(axis.attention + pointers, tl.where(valid, attention, 0), mask=inside)


@triton.jit
def gate_backward_item(
    frames,  # Axis; reads attention
    joints,  # Axis; reads attention
    frame_gradients,  # AxisGradients; reads correlation and upstream, writes logits
    joint_gradients,  # AxisGradients; reads correlation and upstream, writes logits
    sizes,
    masks,
    slices,
    scale,
    sample,
    item,
    BLOCK_V: tl.constexpr,
    BLOCK_R: tl.constexpr,
    BLOCK_L: tl.constexpr,
    SOFTMAX: tl.constexpr,
    MEAN: tl.constexpr,
    ARITHMETIC: tl.constexpr,
):
    """Gradient of the logits, for a block of groups: frames in even items, joints in odd ones."""
    _, frame_count, joint_count = valid_counts(sizes, masks, sample, BLOCK_V)
    scale = scale_of(scale, frame_count, joint_count, MEAN, ARITHMETIC)
    group = (item // 2) * BLOCK_R + tl.arange(0, BLOCK_R)
    if item % 2 == 0:
        if is_reached(frame_gradients):
            _gate_axis_backward(frames, frame_gradients, sizes, slices, scale, sample, group,
                                BLOCK_R, BLOCK_L, SOFTMAX, ARITHMETIC)  # fmt: skip
    else:
        if is_reached(joint_gradients):
            _gate_axis_backward(joints, joint_gradients, sizes, slices, scale, sample, group,
                                BLOCK_R, BLOCK_L, SOFTMAX, ARITHMETIC)  # fmt: skip


@triton.jit
def _gate_axis_backward(
    axis, gradients, sizes, slices, scale, sample, group,
    BLOCK_R: tl.constexpr, BLOCK_L: tl.constexpr, SOFTMAX: tl.constexpr, ARITHMETIC: tl.constexpr
):  # fmt: skip
    length = axis.length
    row = sample.to(tl.int64) * sizes.groups + group
    along = tl.zeros([BLOCK_R], ARITHMETIC)  # Σ a da
    rest = tl.zeros(
        [BLOCK_R], ARITHMETIC
    )  # Σ a (da − Σ a da): 0 but for rounding, which it corrects
    if SOFTMAX:
        for start in range(0, length, BLOCK_L):
            at = start + tl.arange(0, BLOCK_L)
            attention, of_attention = _with_gradient(
                axis, gradients, sizes, slices, scale, sample, group, at, ARITHMETIC
            )
            along += tl.sum(tl.where(attention != 0, attention * of_attention, 0), 1)
        for start in range(0, length, BLOCK_L):
            at = start + tl.arange(0, BLOCK_L)
            attention, of_attention = _with_gradient(
                axis, gradients, sizes, slices, scale, sample, group, at, ARITHMETIC
            )
            centred = of_attention - along[:, None]
            rest += tl.sum(tl.where(attention != 0, attention * centred, 0), 1)
        rest = tl.where(tl.abs(rest) < float("inf"), rest, 0)
    for start in range(0, length, BLOCK_L):
        at = start + tl.arange(0, BLOCK_L)
        attention, of_attention = _with_gradient(
            axis, gradients, sizes, slices, scale, sample, group, at, ARITHMETIC
        )
        if SOFTMAX:
            result = attention * ((of_attention - along[:, None]) - rest[:, None])
        else:
            result = attention * (1 - attention) * of_attention
        inside = (group < sizes.groups)[:, None] & (at < length)[None, :]
        pointers = gradients.logits + row[:, None] * length + at[None, :]
        tl.store(pointers, tl.where(attention != 0, result, 0), mask=inside)


@triton.jit
def _with_gradient(
    axis, gradients, sizes, slices, scale, sample, group, at, ARITHMETIC: tl.constexpr
):
    """Attention, and its gradient: κ Σ of its group's correlations, in order, + upstream."""
    row = sample.to(tl.int64) * sizes.groups + group
    inside = (group < sizes.groups)[:, None] & (at < axis.length)[None, :]
    pointers = row[:, None] * axis.length + at[None, :]
    total = tl.zeros(inside.shape, ARITHMETIC)
    if gradients.correlation is not None:
        rows = slices.rows // sizes.groups
        first = (sample.to(tl.int64) * slices.rows + group * rows) * axis.partials
        for index in range(rows * axis.partials):
            from_row = gradients.correlation + (first + index)[:, None] * axis.length + at[None, :]
            total += tl.load(from_row, mask=inside, other=0)
        total = scale * total
    if gradients.upstream is not None:
        total += tl.load(gradients.upstream + pointers, mask=inside, other=0)
    return tl.load(axis.attention + pointers, mask=inside, other=0), total
