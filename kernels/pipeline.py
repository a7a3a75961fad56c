"""Forward and backward of a call, one launch each: the stages of a sample, handed from one program
to another.

A sample passes through up to four stages, each cut into items. A program draws the next ticket and
does the item that stands there. The order of the tickets is one of time slots: a slot holds the
first stage of one sample, the second of an earlier one, and so on, so that a later stage seldom
has to wait and finds what it reads again in the L2 cache. An item waits until the stage before it
has finished its sample. All of that stands at lower tickets, which running programs have drawn: no
program waits for one that has not begun, whatever the hardware schedules, be it one program at a
time. Counters are integers, and no sum depends on who comes first.

Small samples are not worth the hand-over: there (ALONE) a slot is one program, which does all of
its items in turn.
"""

import triton
import triton.language as tl
from csta_fast.kernels.gates import gate_backward_item, gate_item
from csta_fast.kernels.heads import score_backward_item, score_item
from csta_fast.kernels.passes import correlate_item, couple_item, pool_item, spread_item
from csta_fast.kernels.structures import Axis, Masks, Sizes, Slices, Work

_STAGES = tl.constexpr(4)
_NUMBERS = [
    "samples", "channels", "frame_total", "joint_total", "groups", "joint_stride", "frame_width",
    "joint_width", "rows", "slice_frames", "slice_positions", "delay", "first_items",
    "second_items", "third_items", "fourth_items",
]  # fmt: skip


@triton.jit
def turn_of(tickets, places, ALONE: tl.constexpr):
    """The slot of this program and its places there, first and end: one, or alone all of them."""
    if ALONE:
        return tl.program_id(0), 0, places
    else:
        ticket = tl.atomic_add(tickets, 1, sem="relaxed")
        return ticket // places, ticket % places, ticket % places + 1


@triton.jit
def sample_of(work, STAGE: tl.constexpr, ALONE: tl.constexpr):
    """The sample that a stage works on in this slot, and whether there is such a sample."""
    if ALONE:
        return work.slot, True
    else:
        sample = work.slot - (work.delay * STAGE + _STAGES - 2) // (_STAGES - 1)
        return sample, (sample >= 0) & (sample < work.samples)


@triton.jit
def wait_for(work, sample, items, STAGE: tl.constexpr, ALONE: tl.constexpr):
    """Until all items of a stage have finished a sample; what they wrote can be read then."""
    if not ALONE:
        counter = work.done + STAGE * work.samples + sample
        while tl.atomic_add(counter, 0, sem="acquire") < items:
            pass
        tl.debug_barrier()


@triton.jit
def finish(work, sample, STAGE: tl.constexpr, ALONE: tl.constexpr):
    """Tell that an item has finished, after the stores of all threads."""
    tl.debug_barrier()
    if not ALONE:
        tl.atomic_add(work.done + STAGE * work.samples + sample, 1, sem="release")


@triton.jit
def forward_item(
    x, y, frames, joints, frame_head, joint_head, sizes, masks, slices, work, place, scale,
    BLOCK_C: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_V: tl.constexpr, FLAT_P: tl.constexpr,
    BLOCK_H: tl.constexpr, BLOCK_K: tl.constexpr, BLOCK_P: tl.constexpr, BLOCK_R: tl.constexpr,
    BLOCK_L: tl.constexpr, SHARED: tl.constexpr, SOFTMAX: tl.constexpr, MEAN: tl.constexpr,
    RESIDUAL: tl.constexpr, LAST: tl.constexpr, ALIGNED: tl.constexpr, ALONE: tl.constexpr,
    ARITHMETIC: tl.constexpr,
):  # fmt: skip
    """The item at a place of this slot: pool, score, gate or couple."""
    if frame_head is not None:
        sample, exists = sample_of(work, 0, ALONE)
        if exists & (place < work.first):
            pool_item(x, frames, joints, sizes, masks, slices, sample, place,
                      BLOCK_C, BLOCK_T, BLOCK_V, LAST, ARITHMETIC)  # fmt: skip
            finish(work, sample, 0, ALONE)
        place -= work.first
        sample, exists = sample_of(work, 1, ALONE)
        if exists & (place >= 0) & (place < work.second):
            wait_for(work, sample, work.first, 0, ALONE)
            score_item(frames, joints, frame_head, joint_head, sizes, masks, sample, place,
                       BLOCK_V, BLOCK_H, BLOCK_K, BLOCK_P, ARITHMETIC)  # fmt: skip
            finish(work, sample, 1, ALONE)
        place -= work.second
    sample, exists = sample_of(work, 2, ALONE)
    if exists & (place >= 0) & (place < work.third):
        if frame_head is not None:
            wait_for(work, sample, work.second, 1, ALONE)
        gate_item(frames, joints, sizes, masks, sample, place,
                  BLOCK_V, BLOCK_R, BLOCK_L, SOFTMAX, ARITHMETIC)  # fmt: skip
        finish(work, sample, 2, ALONE)
    place -= work.third
    sample, exists = sample_of(work, 3, ALONE)
    if exists & (place >= 0):
        wait_for(work, sample, work.third, 2, ALONE)
        couple_item(x, y, frames, joints, sizes, masks, slices, scale, sample, place,
                    BLOCK_C, FLAT_P, BLOCK_V, SHARED, RESIDUAL, MEAN, LAST, ALIGNED,
                    ARITHMETIC)  # fmt: skip


@triton.jit(do_not_specialize=_NUMBERS)
def forward_kernel(
    x,  # (N, C, T, V)
    y,  # (N, C, T, V), written
    frame_tensors,  # AxisTensors; logits are written if there are heads, else read
    joint_tensors,  # AxisTensors
    frame_head,  # HeadTensors, or None
    joint_head,  # HeadTensors, or None
    mask_tensors,  # MaskTensors
    tickets,  # (1,) int32, zero
    done,  # (3, N) int32, zero
    samples,
    channels,
    frame_total,
    joint_total,
    groups,
    joint_stride,
    frame_width,
    joint_width,
    rows,
    slice_frames,
    slice_positions,
    delay,
    first_items,  # pool
    second_items,  # score
    third_items,  # gate
    fourth_items,  # couple
    scale: "fp64",  # noqa: F821
    BLOCK_C: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_V: tl.constexpr,
    FLAT_P: tl.constexpr,
    BLOCK_H: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_P: tl.constexpr,
    BLOCK_R: tl.constexpr,
    BLOCK_L: tl.constexpr,
    SHARED: tl.constexpr,
    SOFTMAX: tl.constexpr,
    MEAN: tl.constexpr,
    RESIDUAL: tl.constexpr,
    LAST: tl.constexpr,
    ALIGNED: tl.constexpr,
    ALONE: tl.constexpr,
    ARITHMETIC: tl.constexpr,
):
    """pool, score, gate, couple; the first two only where there are heads."""
    sizes = Sizes(channels, frame_total, joint_total, groups)
    masks = Masks(mask_tensors.lengths, mask_tensors.frames, mask_tensors.joints, joint_stride)
    slices = Slices(tl.cdiv(channels, BLOCK_C), slice_frames, slice_positions, rows)
    frames = Axis(frame_tensors.sums, frame_tensors.hidden, frame_tensors.logits,
                  frame_tensors.attention, 1, frame_width, frame_total)  # fmt: skip
    joints = Axis(joint_tensors.sums, joint_tensors.hidden, joint_tensors.logits,
                  joint_tensors.attention, tl.cdiv(frame_total, slice_frames), joint_width,
                  joint_total)  # fmt: skip
    places = first_items + second_items + third_items + fourth_items
    slot, first, end = turn_of(tickets, places, ALONE)
    work = Work(slot, first_items, second_items, third_items, samples, delay, done)
    for place in tl.range(first, end, disable_licm=True):  # hoisting would cost registers
        forward_item(
            x, y, frames, joints, frame_head, joint_head, sizes, masks, slices, work, place, scale,
            BLOCK_C, BLOCK_T, BLOCK_V, FLAT_P, BLOCK_H, BLOCK_K, BLOCK_P, BLOCK_R, BLOCK_L, SHARED,
            SOFTMAX, MEAN, RESIDUAL, LAST, ALIGNED, ALONE, ARITHMETIC,
        )  # fmt: skip


@triton.jit
def backward_item(
    x, u, dx, frames, joints, frame_head, joint_head, frame_gradients, joint_gradients,
    sizes, masks, slices, work, place, scale,
    BLOCK_C: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_V: tl.constexpr, BLOCK_H: tl.constexpr,
    BLOCK_K: tl.constexpr, BLOCK_P: tl.constexpr, BLOCK_R: tl.constexpr, BLOCK_L: tl.constexpr,
    SHARED: tl.constexpr, SOFTMAX: tl.constexpr, MEAN: tl.constexpr, RESIDUAL: tl.constexpr,
    LAST: tl.constexpr, ALONE: tl.constexpr, ARITHMETIC: tl.constexpr,
):  # fmt: skip
    """The item at a place of this slot: correlate, the gates' or the heads' gradient, or spread."""
    sample, exists = sample_of(work, 0, ALONE)
    if exists & (place < work.first):
        correlate_item(x, u, frames, joints, frame_gradients, joint_gradients, sizes, masks,
                       slices, sample, place, BLOCK_C, BLOCK_T, BLOCK_V, SHARED, LAST,
                       ARITHMETIC)  # fmt: skip
        finish(work, sample, 0, ALONE)
    place -= work.first
    sample, exists = sample_of(work, 1, ALONE)
    if exists & (place >= 0) & (place < work.second):
        wait_for(work, sample, work.first, 0, ALONE)
        gate_backward_item(frames, joints, frame_gradients, joint_gradients, sizes, masks, slices,
                           scale, sample, place, BLOCK_V, BLOCK_R, BLOCK_L, SOFTMAX, MEAN,
                           ARITHMETIC)  # fmt: skip
        finish(work, sample, 1, ALONE)
    place -= work.second
    if frame_head is not None:
        sample, exists = sample_of(work, 2, ALONE)
        if exists & (place >= 0) & (place < work.third):
            wait_for(work, sample, work.second, 1, ALONE)
            score_backward_item(frames, joints, frame_head, joint_head, frame_gradients,
                                joint_gradients, sizes, masks, sample, place,
                                BLOCK_V, BLOCK_H, BLOCK_K, BLOCK_P, ARITHMETIC)  # fmt: skip
            finish(work, sample, 2, ALONE)
        place -= work.third
    if dx is not None:
        sample, exists = sample_of(work, 3, ALONE)
        if exists & (place >= 0):
            if frame_head is not None:
                wait_for(work, sample, work.third, 2, ALONE)
            spread_item(u, dx, frames, joints, frame_gradients.means, joint_gradients.means, sizes,
                        masks, slices, scale, sample, place, BLOCK_C, BLOCK_T, BLOCK_V, SHARED,
                        RESIDUAL, MEAN, LAST, ARITHMETIC)  # fmt: skip


@triton.jit(do_not_specialize=_NUMBERS)
def backward_kernel(
    x,  # (N, C, T, V)
    u,  # (N, C, T, V) gradient of y
    dx,  # (N, C, T, V), written; or None
    frame_tensors,  # AxisTensors
    joint_tensors,  # AxisTensors
    frame_head,  # HeadTensors, or None
    joint_head,  # HeadTensors, or None
    frame_gradients,  # AxisGradients
    joint_gradients,  # AxisGradients
    mask_tensors,  # MaskTensors
    tickets,  # (1,) int32, zero
    done,  # (3, N) int32, zero
    samples,
    channels,
    frame_total,
    joint_total,
    groups,
    joint_stride,
    frame_width,
    joint_width,
    rows,
    slice_frames,
    slice_positions,
    delay,
    first_items,  # correlate
    second_items,  # gradient of the gates
    third_items,  # gradient of the heads
    fourth_items,  # spread
    scale: "fp64",  # noqa: F821
    BLOCK_C: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_V: tl.constexpr,
    BLOCK_H: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_P: tl.constexpr,
    BLOCK_R: tl.constexpr,
    BLOCK_L: tl.constexpr,
    SHARED: tl.constexpr,
    SOFTMAX: tl.constexpr,
    MEAN: tl.constexpr,
    RESIDUAL: tl.constexpr,
    LAST: tl.constexpr,
    ALONE: tl.constexpr,
    ARITHMETIC: tl.constexpr,
):
    """correlate, gates, heads, spread; the third only where there are heads."""
    sizes = Sizes(channels, frame_total, joint_total, groups)
    masks = Masks(mask_tensors.lengths, mask_tensors.frames, mask_tensors.joints, joint_stride)
    slices = Slices(tl.cdiv(channels, BLOCK_C), slice_frames, slice_positions, rows)
    frames = Axis(frame_tensors.sums, frame_tensors.hidden, frame_tensors.logits,
                  frame_tensors.attention, 1, frame_width, frame_total)  # fmt: skip
    joints = Axis(joint_tensors.sums, joint_tensors.hidden, joint_tensors.logits,
                  joint_tensors.attention, tl.cdiv(frame_total, slice_frames), joint_width,
                  joint_total)  # fmt: skip
    places = first_items + second_items + third_items + fourth_items
    slot, first, end = turn_of(tickets, places, ALONE)
    work = Work(slot, first_items, second_items, third_items, samples, delay, done)
    for place in tl.range(first, end, disable_licm=True):  # hoisting would cost registers
        backward_item(
            x, u, dx, frames, joints, frame_head, joint_head, frame_gradients, joint_gradients,
            sizes, masks, slices, work, place, scale,
            BLOCK_C, BLOCK_T, BLOCK_V, BLOCK_H, BLOCK_K, BLOCK_P, BLOCK_R, BLOCK_L, SHARED,
            SOFTMAX, MEAN, RESIDUAL, LAST, ALONE, ARITHMETIC,
        )  # fmt: skip
