"""Gradients of the heads' weights: the only sums over samples, in an order that shapes alone fix.

The samples fall into runs. One program sums a run in order into a part of its own; the parts are
then added in order. There are no atomic additions of floats.
"""

from __future__ import annotations

from typing import NamedTuple

import triton
import triton.language as tl
from csta_fast.kernels.positions import product
from torch import Tensor

BLOCK_I, BLOCK_J, BLOCK_P = 16, 32, 8


class Outer(NamedTuple):
    """One matrix Σ left right^T over samples and positions, and the sums of left beside it."""

    left: Tensor  # (N, I, L)
    right: Tensor  # (N, J, L)
    parts: Tensor  # (R, I, J + 1): the last column holds the sums of left


_NUMBERS = [
    "frame_i1", "frame_j1", "frame_i2", "frame_j2", "joint_i1", "joint_j1", "joint_i2", "joint_j2",
    "frames", "joints", "samples", "samples_of_run", "rows", "columns", "runs",
]  # fmt: skip


@triton.jit(do_not_specialize=_NUMBERS)
def outer_kernel(
    frame_w1,  # Outer of dh and means
    frame_w2,  # Outer of ds and hidden
    joint_w1,
    joint_w2,
    frame_i1,
    frame_j1,
    frame_i2,
    frame_j2,
    joint_i1,
    joint_j1,
    joint_i2,
    joint_j2,
    frames,
    joints,
    samples,
    samples_of_run,
    BLOCK_I: tl.constexpr,
    BLOCK_J: tl.constexpr,
    BLOCK_P: tl.constexpr,
    ARITHMETIC: tl.constexpr,
):
    """One block of one of the four matrices, over one run of samples."""
    item, run = tl.program_id(0), tl.program_id(1)
    first = run * samples_of_run
    end = tl.minimum(first + samples_of_run, samples)
    item = _outer(frame_w1, frame_i1, frame_j1, frames, item, run, first, end,
                  BLOCK_I, BLOCK_J, BLOCK_P, ARITHMETIC)  # fmt: skip
    item = _outer(frame_w2, frame_i2, frame_j2, frames, item, run, first, end,
                  BLOCK_I, BLOCK_J, BLOCK_P, ARITHMETIC)  # fmt: skip
    item = _outer(joint_w1, joint_i1, joint_j1, joints, item, run, first, end,
                  BLOCK_I, BLOCK_J, BLOCK_P, ARITHMETIC)  # fmt: skip
    _outer(joint_w2, joint_i2, joint_j2, joints, item, run, first, end,
           BLOCK_I, BLOCK_J, BLOCK_P, ARITHMETIC)  # fmt: skip


@triton.jit
def _outer(
    outer, rows, columns, length, item, run, first, end,
    BLOCK_I: tl.constexpr, BLOCK_J: tl.constexpr, BLOCK_P: tl.constexpr, ARITHMETIC: tl.constexpr
):  # fmt: skip
    """The block of this matrix, if the item is one of its; else the item's number in the next."""
    across = tl.cdiv(columns + 1, BLOCK_J)
    blocks = tl.cdiv(rows, BLOCK_I) * across
    if (item >= 0) & (item < blocks):
        i = (item // across) * BLOCK_I + tl.arange(0, BLOCK_I)
        j = (item % across) * BLOCK_J + tl.arange(0, BLOCK_J)
        some_row, some_column = i < rows, j < columns
        total = tl.zeros([BLOCK_I, BLOCK_J], ARITHMETIC)
        beside = tl.zeros([BLOCK_I], ARITHMETIC)
        for sample in range(first, end):
            row = rows.to(tl.int64) * sample + i
            column = columns.to(tl.int64) * sample + j
            for start in range(0, length, BLOCK_P):
                p = start + tl.arange(0, BLOCK_P)
                left = tl.load(outer.left + row[:, None] * length + p[None, :],
                               mask=some_row[:, None] & (p < length)[None, :],
                               other=0)  # fmt: skip
                right = tl.load(outer.right + column[None, :] * length + p[:, None],
                                mask=some_column[None, :] & (p < length)[:, None],
                                other=0)  # fmt: skip
                total = product(left, right, total)
                beside += tl.sum(left, 1)
        place = outer.parts + (run.to(tl.int64) * rows + i) * (columns + 1)
        tl.store(place[:, None] + j[None, :], total, mask=some_row[:, None] & some_column[None, :])
        if item % across == 0:
            tl.store(place + columns, beside, mask=some_row)
    return item - blocks


@triton.jit(do_not_specialize=_NUMBERS)
def add_runs_kernel(
    parts,  # (R, I, J + 1)
    matrix,  # (I, J), written
    vector,  # (I,), written
    rows,
    columns,
    runs,
    BLOCK: tl.constexpr,
    ARITHMETIC: tl.constexpr,
):
    """The parts of one matrix and of the vector beside it, added in the order of the runs."""
    each = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    size = rows * (columns + 1)
    total = tl.zeros([BLOCK], ARITHMETIC)
    for run in range(runs):
        total += tl.load(parts + size.to(tl.int64) * run + each, mask=each < size, other=0)
    row, column = each // (columns + 1), each % (columns + 1)
    tl.store(matrix + row * columns + column, total, mask=(each < size) & (column < columns))
    tl.store(vector + row, total, mask=(each < size) & (column == columns))
