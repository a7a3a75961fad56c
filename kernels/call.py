"""One call of an operator: x's layout, plan, masks, buffers, and the launch of a pipeline."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
import triton.language as tl
from csta_fast.kernels import plans
from csta_fast.kernels.plans import Plan
from csta_fast.kernels.structures import MaskTensors
from torch import Tensor

from csta_fast.operators import signature
from csta_fast.types import COMPUTE_DTYPES, is_channels_last, memory_format

ARITHMETIC = {torch.float32: tl.float32, torch.float64: tl.float64}

#: L2 bytes without a GPU (Triton's interpreter): those of an H100.
_INTERPRETED_L2 = 50 * 2**20


class Call:
    """x in its layout, and the plan, masks and buffers of the call."""

    def __init__(self, x: Tensor, groups: int, masks: signature.Masks, passes: int = 1) -> None:
        self.channels_last = is_channels_last(x)
        self.x = x if self.channels_last else x.contiguous()
        self.samples, self.channels, self.frames, self.joints = x.shape
        self.groups = groups
        self.arithmetic = COMPUTE_DTYPES[x.dtype]
        lengths, frame_mask, joint_mask = (
            None if mask is None else mask.contiguous() for mask in masks
        )
        self.masks = MaskTensors(lengths, _bytes(frame_mask), _bytes(joint_mask))
        self.joint_stride = self.joints if joint_mask is not None and joint_mask.dim() == 2 else 0
        self.plan: Plan = plans.plan(
            self.channels, self.frames, self.joints, groups, x.element_size(), self.channels_last,
            l2_bytes(x.device), passes,
        )  # fmt: skip

    def like_x(self, x: Tensor) -> Tensor:
        """A tensor of x's shape, dtype and layout."""
        layout = memory_format(self.channels_last)
        return torch.empty(x.shape, dtype=x.dtype, device=x.device, memory_format=layout)

    def in_layout(self, tensor: Tensor) -> Tensor:
        """Bring another tensor of x's shape into x's layout."""
        return tensor.contiguous(memory_format=memory_format(self.channels_last))

    def buffer(self, *shape: int) -> Tensor:
        """An uninitialised buffer (samples, *shape) in the compute dtype."""
        return self.x.new_empty((self.samples, *shape), dtype=self.arithmetic)

    def counters(self) -> tuple[Tensor | None, Tensor | None]:
        """Ticket counter, and finished items per stage and sample; None with SINGLE_PROGRAM."""
        if self.plan.single_program:
            return None, None
        zeros = self.x.new_zeros(1 + 3 * self.samples, dtype=torch.int32)
        return zeros, zeros[1:]

    def threads(self, backward: bool) -> dict[str, int]:
        """Launch options of a kernel with a pass over x: warps, and registers per thread."""
        if torch.version.hip is not None:  # AMD's compiler has no such option
            return {"num_warps": plans.WARPS}
        more = any(mask is not None for mask in self.masks) or not self.plan.one_group_per_block
        double = self.arithmetic is torch.float64
        limit = plans.registers(backward, more, double)
        return {"num_warps": plans.WARPS, "maxnreg": limit}

    @property
    def delay(self) -> int:
        """Samples between the first and the last stage of one sample."""
        return min(self.plan.window, self.samples)

    def launch(
        self, kernel: Any, backward: bool, tensors: tuple[Any, ...],
        items: tuple[int, int, int, int], widths: tuple[int, int],
        choices: signature.Choices, **blocks: Any
    ) -> None:  # fmt: skip
        """Launch one of the two pipelines."""
        plan, (gate, scale, residual) = self.plan, choices
        softmax = gate == 0
        mean = scale is None and softmax
        slots = self.samples if plan.single_program else (self.samples + self.delay) * sum(items)
        kernel[(slots,)](
            *tensors, self.masks, *self.counters(),
            self.samples, self.channels, self.frames, self.joints, self.groups, self.joint_stride,
            *widths, plan.rows, plan.slice_frames, plan.slice_positions, self.delay, *items,
            1.0 if scale is None else scale,
            BLOCK_C=plan.block_c, BLOCK_T=plan.block_t, BLOCK_V=plan.block_v,
            BLOCK_H=plans.BLOCK_H, BLOCK_K=inner_block(), BLOCK_P=plans.BLOCK_P,
            BLOCK_R=plan.block_r, BLOCK_L=plans.BLOCK_L,
            ONE_GROUP_PER_BLOCK=plan.one_group_per_block, SOFTMAX=softmax,
            MEAN=mean, RESIDUAL=residual, CHANNELS_LAST=self.channels_last,
            SINGLE_PROGRAM=plan.single_program,
            ARITHMETIC=ARITHMETIC[self.arithmetic], **self.threads(backward), **blocks,
        )  # fmt: skip


def inner_block() -> int:
    """Depth of a block of a matrix product; AMD's compiler fails on 8."""
    return plans.BLOCK_K if torch.version.hip is None else 2 * plans.BLOCK_K


def _bytes(mask: Tensor | None) -> Tensor | None:
    return None if mask is None else mask.view(torch.uint8)


@lru_cache(maxsize=64)
def l2_bytes(device: torch.device) -> int:
    if device.type != "cuda":
        return _INTERPRETED_L2
    return int(torch.cuda.get_device_properties(device).L2_cache_size)
