"""Tensors of more than 2^31 elements that take up addresses and hardly any memory."""

from __future__ import annotations

import math
import mmap

import torch
from contract import assert_like
from torch import Tensor

from csta_fast import HeadWeights, functional, reference


def addresses(shape: tuple[int, ...], layout: torch.memory_format) -> Tensor:
    """A bfloat16 tensor in pages that the system provides only when they are touched."""
    strides = torch.empty(shape, device="meta", memory_format=layout).stride()
    pages = mmap.mmap(-1, 2 * math.prod(shape), mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    return torch.frombuffer(pages, dtype=torch.bfloat16).as_strided(shape, strides)


def check_reading_far_away(
    shape: tuple[int, int, int, int], layout: torch.memory_format, backend: str, namespace: str
) -> None:
    """Frames that are not real are not read, so x and u take up addresses but no memory."""
    real, channels = 3, shape[1]
    x, u = (addresses(shape, layout) for _ in range(2))
    assert x[:-1].numel() >= 2**31
    for tensor in (x, u):
        tensor[-1, :, :real] = torch.randn(channels, real, shape[3])
    lengths = torch.zeros(shape[0], dtype=torch.int64)
    lengths[-1] = real
    small_x, small_u = (tensor[-1:, :, :real].clone() for tensor in (x, u))
    for ours, theirs in zip(
        functional.pool(x, lengths=lengths, backend=backend), reference.pool(small_x), strict=True
    ):
        torch.testing.assert_close(ours[-1:, :, : theirs.shape[2]], theirs)

    weights = [torch.randn(size, requires_grad=True) for size in ((2, channels), 2, (1, 2), 1) * 2]
    y, attention = reference.csta(small_x, HeadWeights(*weights[:4]), HeadWeights(*weights[4:]))
    wanted = torch.autograd.grad(y, weights, small_u)
    frames, joints = torch.zeros(shape[0], 1, shape[2]), torch.zeros(shape[0], 1, shape[3])
    frames[-1, :, :real], joints[-1] = attention.frames[0].detach(), attention.joints[0].detach()
    with torch.no_grad():
        _, *found = getattr(torch.ops, namespace).csta_backward(
            u, None, None, x, *weights, frames, joints, lengths, None, None, 0, None, False, False
        )
    assert_like(dict(enumerate(found)), dict(enumerate(wanted)))
