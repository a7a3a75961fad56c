"""What a user would write or have without this package: eager PyTorch, and the compiler on it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor

from csta_fast import HeadWeights

Layer: TypeAlias = Callable[[Tensor, HeadWeights, HeadWeights], Tensor]

_COMPILER_MODES = {"compile": None, "max-autotune": "max-autotune-no-cudagraphs"}


def _logits(means: Tensor, head: HeadWeights) -> Tensor:
    hidden = torch.relu(head.w1 @ means + head.b1[:, None])
    return head.w2 @ hidden + head.b2[:, None]


def eager(x: Tensor, frame_head: HeadWeights, joint_head: HeadWeights) -> Tensor:
    """The layer for one group, softmax gate and scale "mean", in six plain lines."""
    frames, joints = x.shape[2:]
    frame_attention = torch.softmax(_logits(x.mean(3), frame_head), 2)  # (N, 1, T)
    joint_attention = torch.softmax(_logits(x.mean(2), joint_head), 2)  # (N, 1, V)
    scaled = frame_attention * (frames * joints)
    return x * (scaled[:, :, :, None] * joint_attention[:, :, None, :])


def rival(name: str) -> Layer:
    """The layer under a rival's name: "eager", "compile" or "max-autotune".

    Compiled rivals are specialised to the first shape they see, their fastest form.
    """
    if name == "eager":
        return eager
    return torch.compile(eager, mode=_COMPILER_MODES[name], fullgraph=True, dynamic=False)


def forget_compiled() -> None:
    """Clear the compiler's memory of earlier shapes: past a few it would silently run eagerly.

    Once per group: between two rivals it would have the first one compiled again.
    """
    torch.compiler.reset()
