"""Gradients of the heads' weights: the only sums over samples, in an order that shapes alone fix.

The samples fall into runs. One program sums a run in order into a part of its own; the partials are
then added in order. There are no atomic additions of floats.
"""

from __future__ import annotations

from typing import NamedTuple

import triton
import triton.language as tl
from csta_fast.kernels.positions import product
from torch import Tensor

BLOCK_I, BLOCK_J = 16, 32


class Outer(NamedTuple):
    """One matrix Σ left right^T over samples and positions, and the sums of left beside it."""

    left: Tensor  # (N, I, L)
    right: Tensor  # (N, J, L)
    partials: Tensor  # (R, I, J + 1): the last column holds the sums of left


class Total(NamedTuple):
    """Outputs of one matrix and its vector, and the runs that are added up to them."""

    partials: Tensor  # (R, I, J + 1)
    matrix: Tensor  # (I, J), written
    vector: Tensor  # (I,), written


_NUMBERS = [
    "frame_i1", "frame_j1", "frame_i2", "frame_j2", "joint_i1", "joint_j1", "joint_i2", "joint_j2",
    "frames", "joints", "samples", "samples_of_run", "runs",
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
                left = tl.load(outer.left + row[None, :] * length + p[:, None],
                               mask=some_row[None, :] & (p < length)[:, None],
                               other=0)  # fmt: skip
                right = tl.load(outer.right + column[None, :] * length + p[:, None],
                                mask=some_column[None, :] & (p < length)[:, None],
                                other=0)  # fmt: skip
                total = product(left, right, total)
                beside += tl.sum(left, 0)
        pointers = outer.partials + (run.to(tl.int64) * rows + i) * (columns + 1)
        tl.store(
            pointers[:, None] + j[None, :], total, mask=some_row[:, None] & some_column[None, :]
        )
        if item % across == 0:
            tl.store(pointers + columns, beside, mask=some_row)
    return item - blocks


@triton.jit(do_not_specialize=_NUMBERS)
def add_runs_kernel(
    frame_w1,  # Total
    frame_w2,
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
    runs,
    BLOCK: tl.constexpr,
    ARITHMETIC: tl.constexpr,
):
    """Some elements of one of the four matrices, and of the vectors beside them."""
    item = tl.program_id(0)
    item = _add_runs(frame_w1, frame_i1, frame_j1, item, runs, BLOCK, ARITHMETIC)
    item = _add_runs(frame_w2, frame_i2, frame_j2, item, runs, BLOCK, ARITHMETIC)
    item = _add_runs(joint_w1, joint_i1, joint_j1, item, runs, BLOCK, ARITHMETIC)
    _add_runs(joint_w2, joint_i2, joint_j2, item, runs, BLOCK, ARITHMETIC)


@triton.jit
def _add_runs(total, rows, columns, item, runs, BLOCK: tl.constexpr, ARITHMETIC: tl.constexpr):
    """Add the runs of one matrix and its vector in order, if the item is one of theirs.

    Else return the item's number in the next matrix.
    """
    size = rows * (columns + 1)
    blocks = tl.cdiv(size, BLOCK)
    if (item >= 0) & (item < blocks):
        each = item * BLOCK + tl.arange(0, BLOCK)
        added = tl.zeros([BLOCK], ARITHMETIC)
        for run in range(runs):
            pointers = total.partials + size.to(tl.int64) * run + each
            added += tl.load(pointers, mask=each < size, other=0)
        row, column = each // (columns + 1), each % (columns + 1)
        in_matrix = (each < size) & (column < columns)
        tl.store(total.matrix + row * columns + column, added, mask=in_matrix)
        tl.store(total.vector + row, added, mask=(each < size) & (column == columns))
    return item - blocks
