"""Tuples of kernel arguments, so that a stage takes a few of them and not thirty.

The host passes tuples of tensors. Tuples with numbers are built in the kernel from plain arguments,
because Triton would specialise, and compile again, on some values of a number in a tuple.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class MaskTensors(NamedTuple):
    """Masks of valid positions; None if all are."""

    lengths: Tensor | None  # (N,) int64
    frames: Tensor | None  # (N, T) uint8
    joints: Tensor | None  # (N, V) or (V,) uint8


class HeadTensors(NamedTuple):
    """The weights of one head, contiguous, in any floating type."""

    w1: Tensor  # (H, C)
    b1: Tensor  # (H,)
    w2: Tensor  # (G, H)
    b2: Tensor  # (G,)


class AxisTensors(NamedTuple):
    """One head's side of a call: the frames (L = T, S = 1) or the joints (L = V)."""

    sums: Tensor | None  # (N, S, C, L) sums over the other axis, in S parts
    hidden: Tensor | None  # (N, H, L) after the relu
    logits: Tensor | None  # (N, G, L)
    attention: Tensor  # (N, G, L)


class AxisGradients(NamedTuple):
    """The same side in backward. R rows: channel slices, or channels where groups are smaller."""

    correlation: Tensor | None  # (N, R, S, L) sums of grad_y·x times the other axis's attention
    upstream: Tensor | None  # (N, G, L) gradient of the attention itself
    logits: Tensor  # (N, G, L) gradient of the logits
    hidden: Tensor | None  # (N, H, L) gradient before the relu
    means: Tensor | None  # (N, C, L) gradient of the means
    pooled: Tensor | None  # (N, C, L) the means themselves, for the gradients of the weights


class Sizes(NamedTuple):
    """Sizes of a call."""

    channels: int
    frames: int
    joints: int
    groups: int


class Masks(NamedTuple):
    """MaskTensors, and how far apart the joint masks of two samples lie: V, or 0."""

    lengths: Tensor | None
    frames: Tensor | None
    joints: Tensor | None
    joint_stride: int


class Slices(NamedTuple):
    """Division of a pass over one sample into items."""

    channel_slices: int  # of BLOCK_C channels each
    frames: int  # frames of an item of a three-dimensional pass, a multiple of BLOCK_T
    positions: int  # positions of an item of the flat pass, a multiple of its tile's
    rows: int  # R, rows of the correlations


class Axis(NamedTuple):
    """AxisTensors, and their numbers."""

    sums: Tensor | None
    hidden: Tensor | None
    logits: Tensor | None
    attention: Tensor
    partials: int  # S
    width: int  # H
    length: int  # L


class Work(NamedTuple):
    """A time slot of the pipeline, and the stages' numbers of items and counters."""

    slot: int
    first: int  # items of the first stage of a sample
    second: int
    third: int
    samples: int
    delay: int  # samples between the first and the last stage of one sample
    done: Tensor | None  # (3, N) int32: finished items of every stage and sample
