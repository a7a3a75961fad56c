"""Named tuples, choices, dtypes and memory layouts that every part of the package shares."""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor

Gate: TypeAlias = Literal["softmax", "sigmoid"]
Scale: TypeAlias = Literal["mean", "sum"] | float

#: The number that stands for each gate in the operations' schemas.
GATE_CODES: dict[str, int] = {"softmax": 0, "sigmoid": 1}

#: The type in which a tensor of each supported type is computed.
COMPUTE_DTYPES: dict[torch.dtype, torch.dtype] = {
    torch.float64: torch.float64,
    torch.float32: torch.float32,
    torch.float16: torch.float32,
    torch.bfloat16: torch.float32,
}


class HeadWeights(NamedTuple):
    """Weights of one head: ``logits = w2 @ relu(w1 @ means + b1) + b2`` at every position.

    Each has the dtype of the features or the one they are computed in (float32 for 16-bit
    features).
    """

    w1: Tensor  # (H, C)
    b1: Tensor  # (H,)
    w2: Tensor  # (G, H)
    b2: Tensor  # (G,)


class Attention(NamedTuple):
    """The two weight vectors of every sample and group, in the dtype they are computed in."""

    frames: Tensor  # (N, G, T)
    joints: Tensor  # (N, G, V)


def is_channels_last(x: Tensor) -> bool:
    """Whether x (N, C, T, V) counts as channels-last; what is contiguous as well does not."""
    return not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last)


def memory_format(channels_last: bool) -> torch.memory_format:
    """The memory format of a result, which is one of two."""
    return torch.channels_last if channels_last else torch.contiguous_format
