"""Stages of the two heads, forward and backward; an item is a block of positions of one axis.

Hidden activations go through global memory, written and read by the same program, so that any width
H fits. disable_licm: hoisting out of the loops would cost registers that the passes over x need.
"""

import triton
import triton.language as tl
from csta_fast.kernels.positions import at_least_one, is_reached, product, valid_counts


@triton.jit
def head_item(
    frames,  # Axis; reads sums, writes hidden and logits
    joints,  # Axis; reads sums, writes hidden and logits
    frame_head,
    joint_head,
    sizes,
    masks,
    sample,
    item,
    BLOCK_V: tl.constexpr,
    BLOCK_H: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_P: tl.constexpr,
    ARITHMETIC: tl.constexpr,
):
    """Logits of a block of positions: items of the frames come first, then those of the joints."""
    _, frame_count, joint_count = valid_counts(sizes, masks, sample, BLOCK_V)
    blocks = tl.cdiv(sizes.frames, BLOCK_P)
    if item < blocks:
        _head(frames, frame_head, sizes, at_least_one(joint_count, ARITHMETIC), sample,
               item, BLOCK_H, BLOCK_K, BLOCK_P, ARITHMETIC)  # fmt: skip
    else:
        _head(joints, joint_head, sizes, at_least_one(frame_count, ARITHMETIC), sample,
               item - blocks, BLOCK_H, BLOCK_K, BLOCK_P, ARITHMETIC)  # fmt: skip


@triton.jit
def _head(
    axis, head, sizes, count, sample, block,
    BLOCK_H: tl.constexpr, BLOCK_K: tl.constexpr, BLOCK_P: tl.constexpr, ARITHMETIC: tl.constexpr
):  # fmt: skip
    p = block * BLOCK_P + tl.arange(0, BLOCK_P)
    for start in tl.range(0, axis.width, BLOCK_H, disable_licm=True):
        h = start + tl.arange(0, BLOCK_H)
        hidden = _before_relu(axis, head, sizes, count, sample, h, p,
                              BLOCK_K, BLOCK_P, ARITHMETIC)  # fmt: skip
        hidden = tl.where(hidden < 0, 0, hidden)
        pointers = _rows(axis.hidden, sample, axis.width, h, p, axis.length)
        tl.store(pointers, hidden, mask=(h < axis.width)[:, None] & (p < axis.length)[None, :])
    tl.debug_barrier()
    for start in range(0, sizes.groups, BLOCK_K):
        g = start + tl.arange(0, BLOCK_K)
        logits = tl.load(head.b2 + g, mask=g < sizes.groups, other=0).to(ARITHMETIC)
        logits = logits[:, None] + tl.zeros([BLOCK_K, BLOCK_P], ARITHMETIC)
        for other in tl.range(0, axis.width, BLOCK_H, disable_licm=True):
            h = other + tl.arange(0, BLOCK_H)
            some_hidden = h < axis.width
            w2 = tl.load(head.w2 + g[None, :] * axis.width + h[:, None],
                         mask=(g < sizes.groups)[None, :] & some_hidden[:, None],
                         other=0).to(ARITHMETIC)  # fmt: skip
            pointers = _rows(axis.hidden, sample, axis.width, h, p, axis.length)
            hidden = tl.load(
                pointers, mask=some_hidden[:, None] & (p < axis.length)[None, :], other=0
            )
            logits = product(w2, hidden, logits)
        pointers = _rows(axis.logits, sample, sizes.groups, g, p, axis.length)
        tl.store(pointers, logits, mask=(g < sizes.groups)[:, None] & (p < axis.length)[None, :])


@triton.jit
def _rows(tensor, sample, rows, row, p, length):
    """Pointers to tensor (N, rows, length) [sample, row, p]."""
    return tensor + (sample.to(tl.int64) * rows + row)[:, None] * length + p[None, :]


@triton.jit
def _before_relu(
    axis, head, sizes, count, sample, h, p,
    BLOCK_K: tl.constexpr, BLOCK_P: tl.constexpr, ARITHMETIC: tl.constexpr
):  # fmt: skip
    """W1 p + b1 for some rows h of a head and a block of positions p."""
    some_hidden = h < axis.width
    bias = tl.load(head.b1 + h, mask=some_hidden, other=0).to(ARITHMETIC)
    total = bias[:, None] + tl.zeros([h.shape[0], BLOCK_P], ARITHMETIC)
    for start in tl.range(0, sizes.channels, BLOCK_K, disable_licm=True):
        c = start + tl.arange(0, BLOCK_K)
        w1 = tl.load(head.w1 + h[None, :] * sizes.channels + c[:, None],
                     mask=some_hidden[None, :] & (c < sizes.channels)[:, None],
                     other=0).to(ARITHMETIC)  # fmt: skip
        total = product(w1, means_of(axis, sizes, count, sample, c, p, BLOCK_P, ARITHMETIC), total)
    return total


@triton.jit
def means_of(axis, sizes, count, sample, c, p, BLOCK_P: tl.constexpr, ARITHMETIC: tl.constexpr):
    """Means of some channels at some positions: their partials added in order, over the count."""
    inside = (c < sizes.channels)[:, None] & (p < axis.length)[None, :]
    total = tl.zeros([c.shape[0], BLOCK_P], ARITHMETIC)
    for partial in range(axis.partials):
        start = sample.to(tl.int64) * axis.partials + partial
        pointers = axis.sums + (start * sizes.channels + c)[:, None] * axis.length + p[None, :]
        total += tl.load(pointers, mask=inside, other=0)
    return total / count


@triton.jit
def head_backward_item(
    frames,  # Axis; reads sums, writes hidden
    joints,  # Axis; reads sums, writes hidden
    frame_head,
    joint_head,
    frame_gradients,  # AxisGradients; reads logits, writes hidden, means and pooled
    joint_gradients,  # AxisGradients; reads logits, writes hidden, means and pooled
    sizes,
    masks,
    sample,
    item,
    BLOCK_V: tl.constexpr,
    BLOCK_H: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_P: tl.constexpr,
    ARITHMETIC: tl.constexpr,
):
    """Gradients of the hidden activations and of the means, for a block of frames or joints."""
    _, frame_count, joint_count = valid_counts(sizes, masks, sample, BLOCK_V)
    blocks = tl.cdiv(sizes.frames, BLOCK_P)
    if item < blocks:
        if is_reached(frame_gradients):
            _head_backward(frames, frame_head, frame_gradients, sizes,
                            at_least_one(joint_count, ARITHMETIC), sample, item,
                            BLOCK_H, BLOCK_K, BLOCK_P, ARITHMETIC)  # fmt: skip
    else:
        if is_reached(joint_gradients):
            _head_backward(joints, joint_head, joint_gradients, sizes,
                            at_least_one(frame_count, ARITHMETIC), sample, item - blocks,
                            BLOCK_H, BLOCK_K, BLOCK_P, ARITHMETIC)  # fmt: skip


@triton.jit
def _head_backward(
    axis, head, gradients, sizes, count, sample, block,
    BLOCK_H: tl.constexpr, BLOCK_K: tl.constexpr, BLOCK_P: tl.constexpr, ARITHMETIC: tl.constexpr
):  # fmt: skip
    p = block * BLOCK_P + tl.arange(0, BLOCK_P)
    for start in tl.range(0, axis.width, BLOCK_H, disable_licm=True):
        h = start + tl.arange(0, BLOCK_H)
        inside = (h < axis.width)[:, None] & (p < axis.length)[None, :]
        hidden = _before_relu(axis, head, sizes, count, sample, h, p,
                              BLOCK_K, BLOCK_P, ARITHMETIC)  # fmt: skip
        pointers = _rows(axis.hidden, sample, axis.width, h, p, axis.length)
        tl.store(pointers, tl.where(hidden < 0, 0, hidden), mask=inside)
        gradient = _through_w2(axis, head, gradients, sizes, sample, h, p,
                               BLOCK_K, BLOCK_P, ARITHMETIC)  # fmt: skip
        pointers = _rows(gradients.hidden, sample, axis.width, h, p, axis.length)
        tl.store(pointers, tl.where(hidden <= 0, 0, gradient), mask=inside)
    tl.debug_barrier()
    for start in tl.range(0, sizes.channels, BLOCK_K, disable_licm=True):
        c = start + tl.arange(0, BLOCK_K)
        inside = (c < sizes.channels)[:, None] & (p < axis.length)[None, :]
        total = tl.zeros([BLOCK_K, BLOCK_P], ARITHMETIC)
        for other in tl.range(0, axis.width, BLOCK_H, disable_licm=True):
            h = other + tl.arange(0, BLOCK_H)
            some_hidden = h < axis.width
            w1 = tl.load(head.w1 + h[:, None] * sizes.channels + c[None, :],
                         mask=some_hidden[:, None] & (c < sizes.channels)[None, :],
                         other=0).to(ARITHMETIC)  # fmt: skip
            pointers = _rows(gradients.hidden, sample, axis.width, h, p, axis.length)
            hidden = tl.load(
                pointers, mask=some_hidden[:, None] & (p < axis.length)[None, :], other=0
            )
            total = product(w1, hidden, total)
        tl.store(
            _rows(gradients.means, sample, sizes.channels, c, p, axis.length), total, mask=inside
        )
        means = means_of(axis, sizes, count, sample, c, p, BLOCK_P, ARITHMETIC)
        tl.store(
            _rows(gradients.pooled, sample, sizes.channels, c, p, axis.length), means, mask=inside
        )


@triton.jit
def _through_w2(
    axis, head, gradients, sizes, sample, h, p,
    BLOCK_K: tl.constexpr, BLOCK_P: tl.constexpr, ARITHMETIC: tl.constexpr
):  # fmt: skip
    """W2^T ds for some rows h of a head and a block of positions p."""
    total = tl.zeros([h.shape[0], BLOCK_P], ARITHMETIC)
    for start in range(0, sizes.groups, BLOCK_K):
        g = start + tl.arange(0, BLOCK_K)
        w2 = tl.load(head.w2 + g[:, None] * axis.width + h[None, :],
                     mask=(g < sizes.groups)[:, None] & (h < axis.width)[None, :],
                     other=0).to(ARITHMETIC)  # fmt: skip
        pointers = _rows(gradients.logits, sample, sizes.groups, g, p, axis.length)
        logits = tl.load(
            pointers, mask=(g < sizes.groups)[:, None] & (p < axis.length)[None, :], other=0
        )
        total = product(w2, logits, total)
    return total
