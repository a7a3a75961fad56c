"""Operator pool and its backward, whose programs are independent: x in, means out, and grad_x."""

import triton
import triton.language as tl
from csta_fast.kernels.heads import means_of
from csta_fast.kernels.passes import grad_x_item, pool_item
from csta_fast.kernels.positions import at_least_one, valid_counts
from csta_fast.kernels.structures import Axis, Masks, Sizes, Slices

_NUMBERS = [
    "samples", "channels", "frame_total", "joint_total", "joint_stride", "slice_frames", "items",
]  # fmt: skip


@triton.jit(do_not_specialize=_NUMBERS)
def pool_kernel(
    x,  # (N, C, T, V)
    frame_sums,  # (N, 1, C, T), written
    joint_sums,  # (N, S, C, V), written
    mask_tensors,  # MaskTensors
    channels,
    frame_total,
    joint_total,
    joint_stride,
    slice_frames,
    items,  # of a sample
    BLOCK_C: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_V: tl.constexpr,
    CHANNELS_LAST: tl.constexpr,
    ARITHMETIC: tl.constexpr,
):
    """Sums over joints and over frames of one slice of a sample."""
    sizes = Sizes(channels, frame_total, joint_total, 1)
    masks = Masks(mask_tensors.lengths, mask_tensors.frames, mask_tensors.joints, joint_stride)
    slices = Slices(tl.cdiv(channels, BLOCK_C), slice_frames, 0, 0)
    frames = Axis(frame_sums, None, None, None, 1, 0, frame_total)
    partials = tl.cdiv(frame_total, slice_frames)
    joints = Axis(joint_sums, None, None, None, partials, 0, joint_total)
    program = tl.program_id(0)
    pool_item(x, frames, joints, sizes, masks, slices, program // items, program % items,
              BLOCK_C, BLOCK_T, BLOCK_V, CHANNELS_LAST, ARITHMETIC)  # fmt: skip


@triton.jit(do_not_specialize=_NUMBERS)
def means_kernel(
    frame_sums,  # (N, 1, C, T)
    joint_sums,  # (N, S, C, V)
    frame_means,  # (N, C, T), written
    joint_means,  # (N, C, V), written
    mask_tensors,  # MaskTensors
    channels,
    frame_total,
    joint_total,
    joint_stride,
    slice_frames,
    BLOCK_V: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_P: tl.constexpr,
    ARITHMETIC: tl.constexpr,
):
    """Means of a block of channels of a sample, from the slices' sums."""
    sizes = Sizes(channels, frame_total, joint_total, 1)
    masks = Masks(mask_tensors.lengths, mask_tensors.frames, mask_tensors.joints, joint_stride)
    frames = Axis(frame_sums, None, None, None, 1, 0, frame_total)
    partials = tl.cdiv(frame_total, slice_frames)
    joints = Axis(joint_sums, None, None, None, partials, 0, joint_total)
    sample, c = tl.program_id(0), tl.program_id(1) * BLOCK_K + tl.arange(0, BLOCK_K)
    _, frame_count, joint_count = valid_counts(sizes, masks, sample, BLOCK_V)
    _store_means(frames, frame_means, sizes, joint_count, sample, c, BLOCK_P, ARITHMETIC)
    _store_means(joints, joint_means, sizes, frame_count, sample, c, BLOCK_P, ARITHMETIC)


@triton.jit
def _store_means(
    axis, means, sizes, count, sample, c, BLOCK_P: tl.constexpr, ARITHMETIC: tl.constexpr
):
    row = sample.to(tl.int64) * sizes.channels + c
    for start in range(0, axis.length, BLOCK_P):
        p = start + tl.arange(0, BLOCK_P)
        values = means_of(axis, sizes, at_least_one(count, ARITHMETIC), sample, c, p,
                          BLOCK_P, ARITHMETIC)  # fmt: skip
        inside = (c < sizes.channels)[:, None] & (p < axis.length)[None, :]
        tl.store(means + row[:, None] * axis.length + p[None, :], values, mask=inside)


@triton.jit(do_not_specialize=_NUMBERS)
def pool_backward_kernel(
    frame_means,  # (N, C, T) gradient
    joint_means,  # (N, C, V) gradient
    grad_x,  # (N, C, T, V), written
    mask_tensors,  # MaskTensors
    channels,
    frame_total,
    joint_total,
    joint_stride,
    slice_frames,
    items,  # of a sample
    BLOCK_C: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_V: tl.constexpr,
    CHANNELS_LAST: tl.constexpr,
    ARITHMETIC: tl.constexpr,
):
    """grad_x = dp_f / V_n + dp_j / T_n at every valid position."""
    sizes = Sizes(channels, frame_total, joint_total, 1)
    masks = Masks(mask_tensors.lengths, mask_tensors.frames, mask_tensors.joints, joint_stride)
    slices = Slices(tl.cdiv(channels, BLOCK_C), slice_frames, 0, 0)
    program = tl.program_id(0)
    grad_x_item(None, grad_x, None, None, frame_means, joint_means, sizes, masks, slices, 0.0,
                program // items, program % items, BLOCK_C, BLOCK_T, BLOCK_V, True, False, False,
                CHANNELS_LAST, ARITHMETIC)  # fmt: skip
