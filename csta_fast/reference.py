"""The layer in plain PyTorch, written to be read: every backend is measured against this page.

It runs on any device in float64, float32, float16 and bfloat16, and differentiates to any
order. Arithmetic is float32 (float64 for float64 features) with one rounding at the end.

Positions that are not real (beyond ``lengths``, or masked) are selected away, never multiplied
by zero: whatever padding holds, NaN included, reaches no result.

After the abstract of arXiv 1909.10214, "Coupled spatial-temporal attention", as docs/definition.md
defines it.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor

from csta_fast.types import COMPUTE_DTYPES, Attention, HeadWeights


class RealPositions(NamedTuple):
    """Which frames and joints are real, and how many, per sample."""

    frames: Tensor  # (N, T) bool
    joints: Tensor  # (N, V) bool
    frame_count: Tensor  # (N, 1, 1)
    joint_count: Tensor  # (N, 1, 1)
    everywhere: bool  # no mask was given: nothing has to be selected


def real_positions(
    x: Tensor, lengths: Tensor | None, frame_mask: Tensor | None, joint_mask: Tensor | None
) -> RealPositions:
    """Real frames and joints of x (N, C, T, V); a sample without one kind has none of the other."""
    samples, _, frame_total, joint_total = x.shape
    frames = torch.ones(samples, frame_total, dtype=torch.bool, device=x.device)
    joints = torch.ones(samples, joint_total, dtype=torch.bool, device=x.device)
    if lengths is not None:
        frames = torch.arange(frame_total, device=x.device) < lengths[:, None]
    if frame_mask is not None:
        frames = frames & frame_mask
    if joint_mask is not None:
        joints = joints & joint_mask
    some_frame, some_joint = frames.any(1, keepdim=True), joints.any(1, keepdim=True)
    frames, joints = frames & some_joint, joints & some_frame
    arithmetic = COMPUTE_DTYPES[x.dtype]
    return RealPositions(
        frames,
        joints,
        frames.sum(1, dtype=arithmetic)[:, None, None],
        joints.sum(1, dtype=arithmetic)[:, None, None],
        everywhere=lengths is None and frame_mask is None and joint_mask is None,
    )


def _only_real(x: Tensor, real: RealPositions) -> Tensor:
    if real.everywhere:
        return x
    return torch.where(real.frames[:, None, :, None] & real.joints[:, None, None, :], x, 0)


def autocasts(device: str) -> bool:
    """Whether autocast is on; some devices, meta among them, know none."""
    return torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)


def without_autocast(device: str) -> AbstractContextManager[Any]:
    """Some devices, meta among them, know no autocast that could be switched off."""
    if torch.amp.is_autocast_available(device):
        return torch.autocast(device, enabled=False)
    return nullcontext()


def _pool(x: Tensor, real: RealPositions) -> tuple[Tensor, Tensor]:
    x = _only_real(x, real)
    frame_means = x.sum(3) / real.joint_count.clamp(min=1)
    joint_means = x.sum(2) / real.frame_count.clamp(min=1)
    return frame_means, joint_means


def head(means: Tensor, weights: HeadWeights) -> Tensor:
    """Step 2: logits (N, G, L) of means (N, C, L), in the dtype of the arithmetic."""
    arithmetic = COMPUTE_DTYPES[means.dtype]
    with without_autocast(means.device.type):
        w1, b1, w2, b2 = (weight.to(arithmetic) for weight in weights)
        hidden = torch.relu(w1 @ means.to(arithmetic) + b1[:, None])
        return w2 @ hidden + b2[:, None]


def _gate(logits: Tensor, real: Tensor, gate: str) -> Tensor:
    real = real[:, None, :]
    if gate == "sigmoid":
        return torch.where(real, torch.sigmoid(torch.where(real, logits, 0)), 0)
    nothing_real = ~real.any(2, keepdim=True)
    visible = torch.where(nothing_real, 0, torch.where(real, logits, -torch.inf))
    return torch.where(real, torch.softmax(visible, 2), 0)


def _couple(
    x: Tensor,
    attention: Attention,
    real: RealPositions,
    gate: str,
    scale: str | float,
    residual: bool,
) -> Tensor:
    samples, channels, frames, joints = x.shape
    groups = attention.frames.shape[1]
    kappa: Tensor | float
    if scale == "mean":
        kappa = (real.frame_count * real.joint_count)[..., None] if gate == "softmax" else 1.0
    else:
        kappa = 1.0 if scale == "sum" else float(scale)
    coupled = attention.frames[..., :, None] * attention.joints[..., None, :]
    gain = float(residual) + kappa * coupled
    grouped = _only_real(x, real).reshape(
        samples, groups, channels // max(groups, 1), frames, joints
    )
    y = (grouped * gain[:, :, None]).reshape(x.shape)
    if real.everywhere:
        return y
    is_real = real.frames[:, None, :, None] & real.joints[:, None, None, :]
    return torch.where(is_real, y, x if residual else 0)


def pool(
    x: Tensor,
    *,
    lengths: Tensor | None = None,
    frame_mask: Tensor | None = None,
    joint_mask: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Step 1: frame means (N, C, T) and joint means (N, C, V) of x (N, C, T, V), in its dtype."""
    real = real_positions(x, lengths, frame_mask, joint_mask)
    frame_means, joint_means = _pool(x.to(COMPUTE_DTYPES[x.dtype]), real)
    return frame_means.to(x.dtype), joint_means.to(x.dtype)


def couple(
    x: Tensor,
    frame_logits: Tensor,
    joint_logits: Tensor,
    *,
    gate: str = "softmax",
    scale: str | float = "mean",
    residual: bool = False,
    lengths: Tensor | None = None,
    frame_mask: Tensor | None = None,
    joint_mask: Tensor | None = None,
) -> tuple[Tensor, Attention]:
    """Steps 3 and 4: y of x's shape and dtype, and the attention of logits (N, G, T), (N, G, V)."""
    arithmetic = COMPUTE_DTYPES[x.dtype]
    real = real_positions(x, lengths, frame_mask, joint_mask)
    attention = Attention(
        _gate(frame_logits.to(arithmetic), real.frames, gate),
        _gate(joint_logits.to(arithmetic), real.joints, gate),
    )
    y = _couple(x.to(arithmetic), attention, real, gate, scale, residual)
    return y.to(x.dtype), attention


def csta(
    x: Tensor,
    frame_head: HeadWeights,
    joint_head: HeadWeights,
    *,
    lengths: Tensor | None = None,
    frame_mask: Tensor | None = None,
    joint_mask: Tensor | None = None,
    gate: str = "softmax",
    scale: str | float = "mean",
    residual: bool = False,
) -> tuple[Tensor, Attention]:
    """Steps 1 to 4: y of x's shape (N, C, T, V) and dtype, and the attention behind it."""
    with without_autocast(x.device.type):
        arithmetic = COMPUTE_DTYPES[x.dtype]
        real = real_positions(x, lengths, frame_mask, joint_mask)
        features = x.to(arithmetic)
        frame_means, joint_means = _pool(features, real)
        attention = Attention(
            _gate(head(frame_means, frame_head), real.frames, gate),
            _gate(head(joint_means, joint_head), real.joints, gate),
        )
        y = _couple(features, attention, real, gate, scale, residual)
        return y.to(x.dtype), attention
