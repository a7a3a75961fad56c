"""The reference under the operations' flat signatures, so that it can stand in for any of them."""

from __future__ import annotations

from torch import Tensor

from csta_fast import reference
from csta_fast.structures import GATE_CODES, HeadWeights

_GATES = {code: gate for gate, code in GATE_CODES.items()}


def csta(
    x: Tensor,
    frame_w1: Tensor,
    frame_b1: Tensor,
    frame_w2: Tensor,
    frame_b2: Tensor,
    joint_w1: Tensor,
    joint_b1: Tensor,
    joint_w2: Tensor,
    joint_b2: Tensor,
    lengths: Tensor | None,
    frame_mask: Tensor | None,
    joint_mask: Tensor | None,
    gate: int,
    scale: float | None,
    residual: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    y, attention = reference.csta(
        x,
        HeadWeights(frame_w1, frame_b1, frame_w2, frame_b2),
        HeadWeights(joint_w1, joint_b1, joint_w2, joint_b2),
        lengths=lengths,
        frame_mask=frame_mask,
        joint_mask=joint_mask,
        gate=_GATES[gate],
        scale="mean" if scale is None else scale,
        residual=residual,
    )
    return y, *attention


def couple(
    x: Tensor,
    frame_logits: Tensor,
    joint_logits: Tensor,
    lengths: Tensor | None,
    frame_mask: Tensor | None,
    joint_mask: Tensor | None,
    gate: int,
    scale: float | None,
    residual: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    y, attention = reference.couple(
        x,
        frame_logits,
        joint_logits,
        gate=_GATES[gate],
        scale="mean" if scale is None else scale,
        residual=residual,
        lengths=lengths,
        frame_mask=frame_mask,
        joint_mask=joint_mask,
    )
    return y, *attention


def pool(
    x: Tensor, lengths: Tensor | None, frame_mask: Tensor | None, joint_mask: Tensor | None
) -> tuple[Tensor, Tensor]:
    return reference.pool(x, lengths=lengths, frame_mask=frame_mask, joint_mask=joint_mask)
