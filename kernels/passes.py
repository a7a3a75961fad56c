"""Stages that read or write x, y and their gradients; an item is a slice of a sample, in tiles.

A tile is three-dimensional, BLOCK_C channels × BLOCK_T frames × BLOCK_V joints, for sums over
frames and over joints. It is flat, channels × positions of the T·V plane, where no sums are
needed: no lane is lost to rows of 17, 18, 20 or 25 joints.

Tensors that are read twice are loaded with evict_last, others with evict_first.
"""

import triton
import triton.language as tl
from csta_fast.kernels.positions import (
    at_least_one,
    attention_at,
    groups_of,
    is_masked,
    scale_of,
    tile_of,
    valid_counts,
    valid_frames,
    valid_joints,
)


@triton.jit
def pool_item(
    x,  # (N, C, T, V)
    frames,  # Axis; writes sums (N, 1, C, T)
    joints,  # Axis; writes sums (N, S, C, V)
    sizes,
    masks,
    slices,
    sample,
    item,
    BLOCK_C: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_V: tl.constexpr,
    CHANNELS_LAST: tl.constexpr, ARITHMETIC: tl.constexpr,
):  # fmt: skip
    """First pass of forward: sums of x over joints, and over the frames of this slice."""
    limit, _, joint_count = valid_counts(sizes, masks, sample, BLOCK_V)
    part, first_c, first, end = slice_of(sizes, slices, item, BLOCK_C)
    c, v = first_c + tl.arange(0, BLOCK_C), tl.arange(0, BLOCK_V)
    some_channel, row = c < sizes.channels, sample.to(tl.int64) * sizes.channels + c
    some_joint = valid_joints(sizes, masks, sample, v, joint_count)
    of_joints = tl.zeros([BLOCK_C, BLOCK_V], ARITHMETIC)
    for start in range(first, end, BLOCK_T):
        t = start + tl.arange(0, BLOCK_T)
        some_frame = valid_frames(sizes, masks, sample, t, limit)
        inside = (some_channel[:, None, None] & some_frame[None, :, None]) & some_joint[
            None, None, :
        ]
        pointers = tile_of(
            x, sizes, sample, first_c, start, 0, BLOCK_C, BLOCK_T, BLOCK_V, CHANNELS_LAST
        )
        tile = tl.load(pointers, mask=inside, other=0, eviction_policy="evict_last").to(ARITHMETIC)
        of_joints += tl.sum(tile, 1)
        store_frame_sums(frames.sums, tl.sum(tile, 2), row, some_channel, t, end, sizes)
    store_joint_sums(joints.sums, of_joints, sample, part, c, v, joints.partials, sizes)


@triton.jit
def slice_of(sizes, slices, item, BLOCK_C: tl.constexpr):
    """The slice of an item: index of its frames, first channel, first frame, last frame + 1."""
    part = item // slices.channel_slices
    first = part * slices.frames
    end = tl.minimum(first + slices.frames, sizes.frames)
    return part, (item % slices.channel_slices) * BLOCK_C, first, end


@triton.jit
def store_frame_sums(sums, values, row, some_row, t, end, sizes):
    """Store to sums (N, rows, T) at [row, t]; row counts across samples."""
    pointers = sums + row[:, None] * sizes.frames + t[None, :]
    tl.store(pointers, values, mask=some_row[:, None] & (t < end)[None, :])


@triton.jit
def store_joint_sums(sums, values, sample, part, c, v, partials, sizes):
    """Store to sums (N, S, C, V) at [sample, part, c, v]."""
    row = (sample.to(tl.int64) * partials + part) * sizes.channels + c
    pointers = sums + row[:, None] * sizes.joints + v[None, :]
    tl.store(pointers, values, mask=(c < sizes.channels)[:, None] & (v < sizes.joints)[None, :])


@triton.jit
def reweight_item(
    x,  # (N, C, T, V)
    y,  # (N, C, T, V), written
    frames,  # Axis; reads attention
    joints,  # Axis; reads attention
    sizes,
    masks,
    slices,
    scale,
    sample,
    item,
    BLOCK_C: tl.constexpr, BLOCK_P: tl.constexpr, BLOCK_V: tl.constexpr,
    ONE_GROUP_PER_BLOCK: tl.constexpr, RESIDUAL: tl.constexpr, MEAN: tl.constexpr,
    CHANNELS_LAST: tl.constexpr, ALIGNED: tl.constexpr, ARITHMETIC: tl.constexpr,
):  # fmt: skip
    """Last pass of forward: y = x (ρ + κ a_f a_j), flat over the plane; ρ x where not valid."""
    limit, frame_count, joint_count = valid_counts(sizes, masks, sample, BLOCK_V)
    scale = scale_of(scale, frame_count, joint_count, MEAN, ARITHMETIC)
    first_c = (item % slices.channel_slices) * BLOCK_C
    c = first_c + tl.arange(0, BLOCK_C)
    group = groups_of(c, sizes, ONE_GROUP_PER_BLOCK)
    first = (item // slices.channel_slices) * slices.positions
    plane = sizes.frames * sizes.joints
    end = tl.minimum(first + slices.positions, plane)
    if ALIGNED:  # planes are multiples of 16 elements: whole vectors can be loaded and stored
        plane, end = tl.multiple_of(plane, 16), tl.multiple_of(end, 16)
    for block in range(tl.cdiv(end - first, BLOCK_P)):
        start = first + block * BLOCK_P
        if ALIGNED:
            start = tl.multiple_of(start, 16)
        position = start + tl.arange(0, BLOCK_P)
        t = position // sizes.joints
        v = position - t * sizes.joints
        valid = valid_frames(sizes, masks, sample, t, limit) & valid_joints(
            sizes, masks, sample, v, joint_count
        )
        gain = scale * (
            attention_at(frames, sizes, sample, group, t, valid)
            * attention_at(joints, sizes, sample, group, v, valid)
        )
        if RESIDUAL:
            gain += 1
        inside = (c < sizes.channels)[:, None] & (position < end)[None, :]
        read = inside if RESIDUAL or not is_masked(masks) else inside & valid[None, :]
        pointers = flat_tile_of(
            x, sizes, plane, sample, first_c, start, BLOCK_C, BLOCK_P, CHANNELS_LAST
        )
        value = tl.load(pointers, mask=read, other=0, eviction_policy="evict_first").to(ARITHMETIC)
        result = value * gain
        if is_masked(masks):
            result = tl.where(valid[None, :], result, value)
        pointers = flat_tile_of(
            y, sizes, plane, sample, first_c, start, BLOCK_C, BLOCK_P, CHANNELS_LAST
        )
        tl.store(pointers, result, mask=inside, eviction_policy="evict_first")


@triton.jit
def flat_tile_of(
    x, sizes, plane, sample, c, position,
    BLOCK_C: tl.constexpr, BLOCK_P: tl.constexpr, CHANNELS_LAST: tl.constexpr
):  # fmt: skip
    """Pointers to x[sample, c:] at a run of positions of the plane, (BLOCK_C, BLOCK_P)."""
    along_c, along_p = tl.arange(0, BLOCK_C)[:, None], tl.arange(0, BLOCK_P)[None, :]
    if CHANNELS_LAST:
        start = (sample.to(tl.int64) * plane + position) * sizes.channels + c
        return x + start + (along_p * sizes.channels + along_c)
    else:
        start = (sample.to(tl.int64) * sizes.channels + c) * plane + position
        return x + start + (along_c * plane + along_p)


@triton.jit
def correlate_item(
    x,  # (N, C, T, V)
    grad_y,  # (N, C, T, V) gradient of y
    frames,  # Axis; reads attention, writes sums (N, 1, C, T) where there are any
    joints,  # Axis; reads attention, writes sums (N, S, C, V) where there are any
    frame_gradients,  # AxisGradients; writes correlation (N, R, 1, T)
    joint_gradients,  # AxisGradients; writes correlation (N, R, S, V)
    sizes,
    masks,
    slices,
    sample,
    item,
    BLOCK_C: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_V: tl.constexpr,
    ONE_GROUP_PER_BLOCK: tl.constexpr, CHANNELS_LAST: tl.constexpr, ARITHMETIC: tl.constexpr,
):  # fmt: skip
    """Σ_v grad_y x a_j and Σ_t grad_y x a_f of every row, and the sums of x again."""
    limit, _, joint_count = valid_counts(sizes, masks, sample, BLOCK_V)
    part, first_c, first, end = slice_of(sizes, slices, item, BLOCK_C)
    c, v = first_c + tl.arange(0, BLOCK_C), tl.arange(0, BLOCK_V)
    some_channel, row = c < sizes.channels, sample.to(tl.int64) * sizes.channels + c
    some_joint = valid_joints(sizes, masks, sample, v, joint_count)
    group = groups_of(c, sizes, ONE_GROUP_PER_BLOCK)
    joint_attention = attention_at(joints, sizes, sample, group, v, some_joint)
    ROWS: tl.constexpr = 1 if ONE_GROUP_PER_BLOCK else BLOCK_C
    of_joints = tl.zeros([BLOCK_C, BLOCK_V], ARITHMETIC)
    with_frames = tl.zeros([ROWS, BLOCK_V], ARITHMETIC)
    if ONE_GROUP_PER_BLOCK:  # noqa: SIM108
        gradient_row = item % slices.channel_slices + tl.arange(0, 1)
    else:
        gradient_row = c
    some_row = gradient_row < slices.rows
    flat_row = sample.to(tl.int64) * slices.rows + gradient_row
    for start in tl.range(first, end, BLOCK_T, disable_licm=True):  # hoisting would cost registers
        t = start + tl.arange(0, BLOCK_T)
        some_frame = valid_frames(sizes, masks, sample, t, limit)
        inside = (some_channel[:, None, None] & some_frame[None, :, None]) & some_joint[
            None, None, :
        ]
        pointers = tile_of(
            x, sizes, sample, first_c, start, 0, BLOCK_C, BLOCK_T, BLOCK_V, CHANNELS_LAST
        )
        tile = tl.load(pointers, mask=inside, other=0, eviction_policy="evict_first").to(ARITHMETIC)
        pointers = tile_of(
            grad_y, sizes, sample, first_c, start, 0, BLOCK_C, BLOCK_T, BLOCK_V, CHANNELS_LAST
        )
        upstream = tl.load(pointers, mask=inside, other=0, eviction_policy="evict_last")
        if frames.sums is not None:
            of_joints += tl.sum(tile, 1)
            store_frame_sums(frames.sums, tl.sum(tile, 2), row, some_channel, t, end, sizes)
        both = tile * upstream.to(ARITHMETIC)
        if ONE_GROUP_PER_BLOCK:
            both = tl.sum(both, 0)[None, :, :]
        frame_attention = attention_at(frames, sizes, sample, group, t, some_frame)
        with_frames += tl.sum(both * frame_attention[:, :, None], 1)
        with_joints = tl.sum(both * joint_attention[:, None, :], 2)
        store_frame_sums(
            frame_gradients.correlation, with_joints, flat_row, some_row, t, end, sizes
        )
    if frames.sums is not None:
        store_joint_sums(joints.sums, of_joints, sample, part, c, v, joints.partials, sizes)
    pointers = (flat_row * joints.partials + part)[:, None] * sizes.joints + v[None, :]
    inside = some_row[:, None] & (v < sizes.joints)[None, :]
    tl.store(joint_gradients.correlation + pointers, with_frames, mask=inside)


@triton.jit
def grad_x_item(
    grad_y,  # (N, C, T, V) gradient of y, or None
    grad_x,  # (N, C, T, V), written
    frames,  # Axis; reads attention where there is grad_y
    joints,  # Axis; reads attention where there is grad_y
    frame_means,  # (N, C, T) gradient of the means, or None
    joint_means,  # (N, C, V) gradient of the means, or None
    sizes,
    masks,
    slices,
    scale,
    sample,
    item,
    BLOCK_C: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_V: tl.constexpr,
    ONE_GROUP_PER_BLOCK: tl.constexpr, RESIDUAL: tl.constexpr, MEAN: tl.constexpr,
    CHANNELS_LAST: tl.constexpr, ARITHMETIC: tl.constexpr,
):  # fmt: skip
    """grad_x = grad_y (ρ + κ a_f a_j) + dp_f / V_n + dp_j / T_n; ρ grad_y where not valid."""
    limit, frame_count, joint_count = valid_counts(sizes, masks, sample, BLOCK_V)
    _, first_c, first, end = slice_of(sizes, slices, item, BLOCK_C)
    c, v = first_c + tl.arange(0, BLOCK_C), tl.arange(0, BLOCK_V)
    some_channel, row = c < sizes.channels, sample.to(tl.int64) * sizes.channels + c
    some_joint = valid_joints(sizes, masks, sample, v, joint_count)
    if grad_y is not None:
        scale = scale_of(scale, frame_count, joint_count, MEAN, ARITHMETIC)
        group = groups_of(c, sizes, ONE_GROUP_PER_BLOCK)
        of_joints = attention_at(joints, sizes, sample, group, v, some_joint)
    if joint_means is not None:
        dp_joints = gradient_of_means(joint_means, row, some_channel, v, some_joint, sizes.joints,
                                      frame_count, ARITHMETIC)  # fmt: skip
    for start in range(first, end, BLOCK_T):
        t = start + tl.arange(0, BLOCK_T)
        some_frame = valid_frames(sizes, masks, sample, t, limit)
        valid = some_frame[None, :, None] & some_joint[None, None, :]
        inside = (some_channel[:, None, None] & (t < end)[None, :, None]) & (v < sizes.joints)[
            None, None, :
        ]
        result = tl.zeros([BLOCK_C, BLOCK_T, BLOCK_V], ARITHMETIC)
        if joint_means is not None:
            dp_frames = gradient_of_means(frame_means, row, some_channel, t, some_frame,
                                          sizes.frames, joint_count, ARITHMETIC)  # fmt: skip
            result += tl.where(valid, dp_frames[:, :, None] + dp_joints[:, None, :], 0)
        if grad_y is not None:
            of_frames = attention_at(frames, sizes, sample, group, t, some_frame)
            gain = scale * (of_frames[:, :, None] * of_joints[:, None, :])
            if RESIDUAL:
                gain += 1
            read = inside if RESIDUAL else inside & valid
            pointers = tile_of(
                grad_y, sizes, sample, first_c, start, 0, BLOCK_C, BLOCK_T, BLOCK_V, CHANNELS_LAST
            )
            upstream = tl.load(pointers, mask=read, other=0, eviction_policy="evict_first")
            upstream = upstream.to(ARITHMETIC)
            result += tl.where(valid, upstream * gain, upstream)
        pointers = tile_of(
            grad_x, sizes, sample, first_c, start, 0, BLOCK_C, BLOCK_T, BLOCK_V, CHANNELS_LAST
        )
        tl.store(pointers, result, mask=inside, eviction_policy="evict_first")


@triton.jit
def gradient_of_means(
    means, row, some_channel, at, valid, length, count, ARITHMETIC: tl.constexpr
):  # fmt: skip
    """Gradient of x through the means: dp over the number of positions of a mean."""
    pointers = means + row[:, None] * length + at[None, :]
    loaded = tl.load(pointers, mask=some_channel[:, None] & valid[None, :], other=0)
    return loaded.to(ARITHMETIC) / at_least_one(count, ARITHMETIC)
