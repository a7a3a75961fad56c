"""Forward and backward as one launch each: a pipeline of stages that samples pass through.

A sample passes through up to four stages, each divided into items. A program claims the next ticket
and does the item with that number. Tickets are ordered by time slots: a slot holds the first stage
of one sample, the second of an earlier one and so on, so that a later stage rarely waits and finds
its inputs in the L2 cache. An item waits until the previous stage has finished its sample. That
stage has lower tickets, which running programs have claimed: no program waits for one that has not
started, whatever the hardware schedules, even one program at a time. Counters are integers, and no
sum depends on the order of arrival.

Small samples do not need the hand-over: with SINGLE_PROGRAM one program does all items of a slot.
"""

import triton
import triton.language as tl
from csta_fast.kernels.gates import gate_backward_item, gate_item
from csta_fast.kernels.heads import head_backward_item, head_item
from csta_fast.kernels.passes import correlate_item, grad_x_item, pool_item, reweight_item
from csta_fast.kernels.structures import Axis, Masks, Sizes, Slices, Work

_STAGES = tl.constexpr(4)
_NUMBERS = [
    "samples", "channels", "frame_total", "joint_total", "groups", "joint_stride", "frame_width",
    "joint_width", "rows", "slice_frames", "slice_positions", "delay", "first_items",
    "second_items", "third_items", "fourth_items",
]  # fmt: skip


@triton.jit
def claim_ticket(tickets, items_per_slot, SINGLE_PROGRAM: tl.constexpr):
    """This program's slot and its range of items: one item, or every item when SINGLE_PROGRAM."""
    if SINGLE_PROGRAM:
        return tl.program_id(0), 0, items_per_slot
    else:
        ticket = tl.atomic_add(tickets, 1, sem="relaxed")
        return ticket // items_per_slot, ticket % items_per_slot, ticket % items_per_slot + 1


@triton.jit
def sample_in_flight(work, STAGE: tl.constexpr, SINGLE_PROGRAM: tl.constexpr):
    """The sample that a stage works on in this slot, and whether it exists."""
    if SINGLE_PROGRAM:
        return work.slot, True
    else:
        # Stage s works `delay * s / 3` slots behind the first, rounded up.
        sample = work.slot - (work.delay * STAGE + _STAGES - 2) // (_STAGES - 1)
        return sample, (sample >= 0) & (sample < work.samples)


@triton.jit
def wait_for(work, sample, items, STAGE: tl.constexpr, SINGLE_PROGRAM: tl.constexpr):
    """Wait until all items of a stage have finished a sample and their stores are visible."""
    if not SINGLE_PROGRAM:
        counter = work.done + STAGE * work.samples + sample
        while tl.atomic_add(counter, 0, sem="acquire") < items:
            pass
        tl.debug_barrier()


@triton.jit
def finish(work, sample, STAGE: tl.constexpr, SINGLE_PROGRAM: tl.constexpr):
    """Count an item as finished, after the stores of all threads."""
    tl.debug_barrier()
    if not SINGLE_PROGRAM:
        tl.atomic_add(work.done + STAGE * work.samples + sample, 1, sem="release")


@triton.jit
def forward_item(
    x, y, frames, joints, frame_head, joint_head, sizes, masks, slices, work, item, scale,
    BLOCK_C: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_V: tl.constexpr, FLAT_P: tl.constexpr,
    BLOCK_H: tl.constexpr, BLOCK_K: tl.constexpr, BLOCK_P: tl.constexpr, BLOCK_R: tl.constexpr,
    BLOCK_L: tl.constexpr, ONE_GROUP_PER_BLOCK: tl.constexpr, SOFTMAX: tl.constexpr,
    MEAN: tl.constexpr,
    RESIDUAL: tl.constexpr, CHANNELS_LAST: tl.constexpr, ALIGNED: tl.constexpr,
    SINGLE_PROGRAM: tl.constexpr,
    ARITHMETIC: tl.constexpr,
):  # fmt: skip
    """One item of this slot: pool, heads, gates or reweight."""
    if frame_head is not None:
        sample, exists = sample_in_flight(work, 0, SINGLE_PROGRAM)
        if exists & (item < work.first):
            pool_item(x, frames, joints, sizes, masks, slices, sample, item,
                      BLOCK_C, BLOCK_T, BLOCK_V, CHANNELS_LAST, ARITHMETIC)  # fmt: skip
            finish(work, sample, 0, SINGLE_PROGRAM)
        item -= work.first
        sample, exists = sample_in_flight(work, 1, SINGLE_PROGRAM)
        if exists & (item >= 0) & (item < work.second):
            wait_for(work, sample, work.first, 0, SINGLE_PROGRAM)
            head_item(frames, joints, frame_head, joint_head, sizes, masks, sample, item,
                       BLOCK_V, BLOCK_H, BLOCK_K, BLOCK_P, ARITHMETIC)  # fmt: skip
            finish(work, sample, 1, SINGLE_PROGRAM)
        item -= work.second
    sample, exists = sample_in_flight(work, 2, SINGLE_PROGRAM)
    if exists & (item >= 0) & (item < work.third):
        if frame_head is not None:
            wait_for(work, sample, work.second, 1, SINGLE_PROGRAM)
        gate_item(frames, joints, sizes, masks, sample, item,
                  BLOCK_V, BLOCK_R, BLOCK_L, SOFTMAX, ARITHMETIC)  # fmt: skip
        finish(work, sample, 2, SINGLE_PROGRAM)
    item -= work.third
    sample, exists = sample_in_flight(work, 3, SINGLE_PROGRAM)
    if exists & (item >= 0):
        wait_for(work, sample, work.third, 2, SINGLE_PROGRAM)
        reweight_item(x, y, frames, joints, sizes, masks, slices, scale, sample, item,
                    BLOCK_C, FLAT_P, BLOCK_V, ONE_GROUP_PER_BLOCK, RESIDUAL, MEAN, CHANNELS_LAST,
                    ALIGNED,
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
    second_items,  # heads
    third_items,  # gates
    fourth_items,  # reweight
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
    ONE_GROUP_PER_BLOCK: tl.constexpr,
    SOFTMAX: tl.constexpr,
    MEAN: tl.constexpr,
    RESIDUAL: tl.constexpr,
    CHANNELS_LAST: tl.constexpr,
    ALIGNED: tl.constexpr,
    SINGLE_PROGRAM: tl.constexpr,
    ARITHMETIC: tl.constexpr,
):
    """Stages: pool, heads, gates, reweight; the first two only with heads."""
    sizes = Sizes(channels, frame_total, joint_total, groups)
    masks = Masks(mask_tensors.lengths, mask_tensors.frames, mask_tensors.joints, joint_stride)
    slices = Slices(tl.cdiv(channels, BLOCK_C), slice_frames, slice_positions, rows)
    frames = Axis(frame_tensors.sums, frame_tensors.hidden, frame_tensors.logits,
                  frame_tensors.attention, 1, frame_width, frame_total)  # fmt: skip
    joints = Axis(joint_tensors.sums, joint_tensors.hidden, joint_tensors.logits,
                  joint_tensors.attention, tl.cdiv(frame_total, slice_frames), joint_width,
                  joint_total)  # fmt: skip
    items_per_slot = first_items + second_items + third_items + fourth_items
    slot, first, end = claim_ticket(tickets, items_per_slot, SINGLE_PROGRAM)
    work = Work(slot, first_items, second_items, third_items, samples, delay, done)
    for item in tl.range(first, end, disable_licm=True):  # hoisting would cost registers
        forward_item(
            x, y, frames, joints, frame_head, joint_head, sizes, masks, slices, work, item, scale,
            BLOCK_C, BLOCK_T, BLOCK_V, FLAT_P, BLOCK_H, BLOCK_K, BLOCK_P, BLOCK_R, BLOCK_L,
            ONE_GROUP_PER_BLOCK,
            SOFTMAX, MEAN, RESIDUAL, CHANNELS_LAST, ALIGNED, SINGLE_PROGRAM, ARITHMETIC,
        )  # fmt: skip


@triton.jit
def backward_item(
    x, grad_y, grad_x, frames, joints, frame_head, joint_head, frame_gradients, joint_gradients,
    sizes, masks, slices, work, item, scale,
    BLOCK_C: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_V: tl.constexpr, BLOCK_H: tl.constexpr,
    BLOCK_K: tl.constexpr, BLOCK_P: tl.constexpr, BLOCK_R: tl.constexpr, BLOCK_L: tl.constexpr,
    ONE_GROUP_PER_BLOCK: tl.constexpr, SOFTMAX: tl.constexpr, MEAN: tl.constexpr,
    RESIDUAL: tl.constexpr,
    CHANNELS_LAST: tl.constexpr, SINGLE_PROGRAM: tl.constexpr, ARITHMETIC: tl.constexpr,
):  # fmt: skip
    """One item of this slot: correlate, backward of the gates, of the heads, or grad_x."""
    sample, exists = sample_in_flight(work, 0, SINGLE_PROGRAM)
    if exists & (item < work.first):
        if grad_y is not None:
            correlate_item(x, grad_y, frames, joints, frame_gradients, joint_gradients, sizes,
            masks,
                           slices, sample, item, BLOCK_C, BLOCK_T, BLOCK_V, ONE_GROUP_PER_BLOCK,
                           CHANNELS_LAST,
                           ARITHMETIC)  # fmt: skip
        elif frames.sums is not None:
            pool_item(x, frames, joints, sizes, masks, slices, sample, item,
                      BLOCK_C, BLOCK_T, BLOCK_V, CHANNELS_LAST, ARITHMETIC)  # fmt: skip
        finish(work, sample, 0, SINGLE_PROGRAM)
    item -= work.first
    sample, exists = sample_in_flight(work, 1, SINGLE_PROGRAM)
    if exists & (item >= 0) & (item < work.second):
        wait_for(work, sample, work.first, 0, SINGLE_PROGRAM)
        gate_backward_item(frames, joints, frame_gradients, joint_gradients, sizes, masks, slices,
                           scale, sample, item, BLOCK_V, BLOCK_R, BLOCK_L, SOFTMAX, MEAN,
                           ARITHMETIC)  # fmt: skip
        finish(work, sample, 1, SINGLE_PROGRAM)
    item -= work.second
    if frame_head is not None:
        sample, exists = sample_in_flight(work, 2, SINGLE_PROGRAM)
        if exists & (item >= 0) & (item < work.third):
            wait_for(work, sample, work.second, 1, SINGLE_PROGRAM)
            head_backward_item(frames, joints, frame_head, joint_head, frame_gradients,
                                joint_gradients, sizes, masks, sample, item,
                                BLOCK_V, BLOCK_H, BLOCK_K, BLOCK_P, ARITHMETIC)  # fmt: skip
            finish(work, sample, 2, SINGLE_PROGRAM)
        item -= work.third
    if grad_x is not None:
        sample, exists = sample_in_flight(work, 3, SINGLE_PROGRAM)
        if exists & (item >= 0):
            if frame_head is not None:
                wait_for(work, sample, work.third, 2, SINGLE_PROGRAM)
            grad_x_item(grad_y, grad_x, frames, joints, frame_gradients.means,
            joint_gradients.means, sizes,
                        masks, slices, scale, sample, item, BLOCK_C, BLOCK_T, BLOCK_V,
                        ONE_GROUP_PER_BLOCK,
                        RESIDUAL, MEAN, CHANNELS_LAST, ARITHMETIC)  # fmt: skip


@triton.jit(do_not_specialize=_NUMBERS)
def backward_kernel(
    x,  # (N, C, T, V)
    grad_y,  # (N, C, T, V) gradient of y, or None
    grad_x,  # (N, C, T, V), written; or None
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
    fourth_items,  # grad_x
    scale: "fp64",  # noqa: F821
    BLOCK_C: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_V: tl.constexpr,
    BLOCK_H: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_P: tl.constexpr,
    BLOCK_R: tl.constexpr,
    BLOCK_L: tl.constexpr,
    ONE_GROUP_PER_BLOCK: tl.constexpr,
    SOFTMAX: tl.constexpr,
    MEAN: tl.constexpr,
    RESIDUAL: tl.constexpr,
    CHANNELS_LAST: tl.constexpr,
    SINGLE_PROGRAM: tl.constexpr,
    ARITHMETIC: tl.constexpr,
):
    """Stages: correlate, gates, heads, grad_x; the third only with heads."""
    sizes = Sizes(channels, frame_total, joint_total, groups)
    masks = Masks(mask_tensors.lengths, mask_tensors.frames, mask_tensors.joints, joint_stride)
    slices = Slices(tl.cdiv(channels, BLOCK_C), slice_frames, slice_positions, rows)
    frames = Axis(frame_tensors.sums, frame_tensors.hidden, frame_tensors.logits,
                  frame_tensors.attention, 1, frame_width, frame_total)  # fmt: skip
    joints = Axis(joint_tensors.sums, joint_tensors.hidden, joint_tensors.logits,
                  joint_tensors.attention, tl.cdiv(frame_total, slice_frames), joint_width,
                  joint_total)  # fmt: skip
    items_per_slot = first_items + second_items + third_items + fourth_items
    slot, first, end = claim_ticket(tickets, items_per_slot, SINGLE_PROGRAM)
    work = Work(slot, first_items, second_items, third_items, samples, delay, done)
    for item in tl.range(first, end, disable_licm=True):  # hoisting would cost registers
        backward_item(
            x, grad_y, grad_x, frames, joints, frame_head, joint_head, frame_gradients,
            joint_gradients,
            sizes, masks, slices, work, item, scale,
            BLOCK_C, BLOCK_T, BLOCK_V, BLOCK_H, BLOCK_K, BLOCK_P, BLOCK_R, BLOCK_L,
            ONE_GROUP_PER_BLOCK,
            SOFTMAX, MEAN, RESIDUAL, CHANNELS_LAST, SINGLE_PROGRAM, ARITHMETIC,
        )  # fmt: skip
