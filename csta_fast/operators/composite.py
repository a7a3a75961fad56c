"""The reference under the operators' flat signatures, so that it can stand in for any of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from csta_fast import reference
from csta_fast.types import GATE_CODES, HeadWeights, is_channels_last, memory_format

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


def csta_backward(
    grad_y: Tensor | None,
    grad_frames: Tensor | None,
    grad_joints: Tensor | None,
    x: Tensor,
    *args: Any,
) -> tuple[Tensor, ...]:
    weights, settings, input_gradient = args[:8], args[10:16], args[16]
    grad_x, *others = _pull_back(
        lambda *primals: csta(*primals, *settings),
        (grad_y, grad_frames, grad_joints),
        (x, *weights),
    )
    return grad_x if input_gradient else x.new_empty((0,)), *others


def couple_backward(
    grad_y: Tensor | None,
    grad_frames: Tensor | None,
    grad_joints: Tensor | None,
    x: Tensor,
    frame_attention: Tensor,
    joint_attention: Tensor,
    frame_logits: Tensor,
    joint_logits: Tensor,
    *args: Any,
) -> tuple[Tensor, Tensor, Tensor]:
    settings, input_gradient = args[:6], args[6]
    grad_x, of_frames, of_joints = _pull_back(
        lambda *primals: couple(*primals, *settings),
        (grad_y, grad_frames, grad_joints),
        (x, frame_logits.to(frame_attention.dtype), joint_logits.to(joint_attention.dtype)),
    )
    return grad_x if input_gradient else x.new_empty((0,)), of_frames, of_joints


def pool_backward(grad_frame_means: Tensor, grad_joint_means: Tensor, *args: Any) -> Tensor:
    *masks, channels_last = args
    x = grad_frame_means.new_zeros((*grad_frame_means.shape, grad_joint_means.shape[2]))
    x = x.contiguous(memory_format=memory_format(channels_last))
    (grad_x,) = _pull_back(lambda x: pool(x, *masks), (grad_frame_means, grad_joint_means), (x,))
    return grad_x


def _pull_back(
    forward: Callable[..., tuple[Tensor, ...]],
    cotangents: tuple[Tensor | None, ...],
    primals: tuple[Tensor, ...],
) -> tuple[Tensor, ...]:
    """Gradients of <cotangents, forward(primals)>."""
    leaves = [primal.detach().requires_grad_() for primal in primals]
    with torch.enable_grad():
        outputs = forward(*leaves)
    given = [(out, grad) for out, grad in zip(outputs, cotangents, strict=True) if grad is not None]
    gradients = torch.autograd.grad(
        [out for out, _ in given], leaves, [grad for _, grad in given], materialize_grads=True
    )
    return tuple(
        gradient.contiguous(memory_format=memory_format(is_channels_last(leaf)))
        for gradient, leaf in zip(gradients, leaves, strict=True)
    )
