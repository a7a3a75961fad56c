"""Device functions shared by the stages: valid positions, pointers, scale, small products."""

import triton
import triton.language as tl

_FRAMES_AT_ONCE = tl.constexpr(128)


@triton.jit
def valid_counts(sizes, masks, sample, BLOCK_V: tl.constexpr):
    """Frames below which a valid one may lie, and the numbers of valid frames and valid joints.

    A sample without one kind has none of the other: all three are 0 then.
    """
    limit = sizes.frames
    if masks.lengths is not None:
        given = tl.load(masks.lengths + sample)
        limit = tl.minimum(tl.maximum(given, 0), limit.to(tl.int64)).to(tl.int32)
    frame_count = limit
    if masks.frames is not None:
        frame_count = limit * 0
        for start in range(0, limit, _FRAMES_AT_ONCE):
            t = start + tl.arange(0, _FRAMES_AT_ONCE)
            frame_count += tl.sum(valid_frames(sizes, masks, sample, t, limit).to(tl.int32), 0)
    v = tl.arange(0, BLOCK_V)
    joint_count = tl.sum(_unmasked_joints(sizes, masks, sample, v).to(tl.int32), 0)
    nothing = (frame_count == 0) | (joint_count == 0)
    limit = tl.where(nothing, 0, limit)
    return limit, tl.where(nothing, 0, frame_count), tl.where(nothing, 0, joint_count)


@triton.jit
def is_reached(gradients):
    """Whether anything comes back to an axis: through y, or from above to its attention."""
    return gradients.correlation is not None or gradients.upstream is not None


@triton.jit
def is_masked(masks):
    return masks.lengths is not None or masks.frames is not None or masks.joints is not None


@triton.jit
def valid_frames(sizes, masks, sample, t, limit):
    """Mask of the valid ones of the frames t; none at or beyond the limit."""
    valid = t < limit
    if masks.frames is not None:
        pointers = masks.frames + sample.to(tl.int64) * sizes.frames + t
        valid = valid & (tl.load(pointers, mask=valid, other=0) != 0)
    return valid


@triton.jit
def _unmasked_joints(sizes, masks, sample, v):
    valid = v < sizes.joints
    if masks.joints is not None:
        pointers = masks.joints + sample.to(tl.int64) * masks.joint_stride + v
        valid = valid & (tl.load(pointers, mask=valid, other=0) != 0)
    return valid


@triton.jit
def valid_joints(sizes, masks, sample, v, joint_count):
    """Mask of the valid ones of the joints v."""
    return _unmasked_joints(sizes, masks, sample, v) & (joint_count > 0)


@triton.jit
def tile_of(x, sizes, sample, c, t, v, BLOCK_C: tl.constexpr, BLOCK_T: tl.constexpr,
            BLOCK_V: tl.constexpr, CHANNELS_LAST: tl.constexpr):  # fmt: skip
    """Pointers to x[sample, c:, t:, v:] of a tile (BLOCK_C, BLOCK_T, BLOCK_V).

    Only the tile's start is 64 bits wide, to save registers.
    """
    channels, frames, joints = sizes.channels, sizes.frames, sizes.joints
    along_c = tl.arange(0, BLOCK_C)[:, None, None]
    along_t = tl.arange(0, BLOCK_T)[None, :, None]
    along_v = tl.arange(0, BLOCK_V)[None, None, :]
    if CHANNELS_LAST:
        start = ((sample.to(tl.int64) * frames + t) * joints + v) * channels + c
        return x + start + ((along_t * joints + along_v) * channels + along_c)
    else:
        start = ((sample.to(tl.int64) * channels + c) * frames + t) * joints + v
        return x + start + ((along_c * frames + along_t) * joints + along_v)


@triton.jit
def scale_of(scale, frame_count, joint_count, MEAN: tl.constexpr, ARITHMETIC: tl.constexpr):
    """κ: valid frames × valid joints for the "mean" of a softmax, else the number given."""
    if MEAN:
        return frame_count.to(ARITHMETIC) * joint_count.to(ARITHMETIC)
    else:
        return tl.full([], scale, ARITHMETIC)


@triton.jit
def product(left, right, total):
    """total + left^T @ right, for few rows of both.

    Not a tl.dot: in full float32 it keeps both operands in registers, more than the passes over
    x need, and the hungriest stage sets the registers of the whole pipeline. A sum over the
    middle of [i, k, j] would be turned into a dot in TF32; a sum over the first of [k, i, j] is
    not, and stays within a thread.
    """
    return total + tl.sum(left[:, :, None] * right[:, None, :], 0)


@triton.jit
def at_least_one(count, ARITHMETIC: tl.constexpr):
    return tl.maximum(count, 1).to(ARITHMETIC)


@triton.jit
def groups_of(c, sizes, ONE_GROUP_PER_BLOCK: tl.constexpr):
    """The group of every channel, as a column; a single row where all of them share one."""
    group = c // (sizes.channels // sizes.groups)
    if ONE_GROUP_PER_BLOCK:
        return tl.min(group, 0) + tl.zeros([1, 1], tl.int32)
    else:
        return tl.minimum(group, sizes.groups - 1)[:, None]


@triton.jit
def attention_at(axis, sizes, sample, group, at, valid):
    """Attention of groups (rows) at positions (columns); 0 where not valid."""
    row = sample.to(tl.int64) * sizes.groups + group
    return tl.load(axis.attention + row * axis.length + at[None, :], mask=valid[None, :], other=0)
