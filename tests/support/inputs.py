"""Numbers for a case: tensors with the case's shapes, strides, masks and dtypes."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from cases import Case
from torch import Tensor

from csta_fast import HeadWeights, functional
from csta_fast.types import COMPUTE_DTYPES

WEIGHT_NAMES = tuple(
    f"{head}.{part}" for head in ("frame_head", "joint_head") for part in HeadWeights._fields
)


@dataclass(frozen=True)
class Inputs:
    """What a case is called with."""

    case: Case
    tensors: dict[str, Tensor]  # everything that takes a gradient: x, and weights or logits
    masks: dict[str, Tensor | None]
    upstream: tuple[Tensor, ...]  # one gradient for each result
    real: Tensor  # (N, 1, T, V)

    def call(self, backend: str | None) -> dict[str, Tensor]:
        """Call the operation; its results by name."""
        x, *others = self.tensors.values()
        if self.case.op == "pool":
            means = functional.pool(x, **self.masks, backend=backend)
            return dict(zip(("frame_means", "joint_means"), means, strict=True))
        options: dict[str, Any] = {
            "gate": self.case.gate,
            "scale": self.case.scale,
            "residual": self.case.residual,
            "return_attention": True,
            "backend": backend,
            **self.masks,
        }
        if self.case.op == "couple":
            y, attention = functional.couple(x, *others, **options)
        else:
            heads = HeadWeights(*others[:4]), HeadWeights(*others[4:])
            y, attention = functional.csta(x, *heads, **options)
        return {"y": y, "frame_attention": attention.frames, "joint_attention": attention.joints}

    def gradients(self, results: dict[str, Tensor]) -> dict[str, Tensor]:
        """Gradients of <upstream, results> for every tensor, by name."""
        gradients = torch.autograd.grad(
            tuple(results.values()), tuple(self.tensors.values()), self.upstream, allow_unused=True
        )
        return {
            name: torch.zeros_like(tensor) if gradient is None else gradient
            for (name, tensor), gradient in zip(self.tensors.items(), gradients, strict=True)
        }

    def requires_grad(self, names: tuple[str, ...] | None = None) -> Inputs:
        """Fresh leaves over the same memory; only the named ones take gradients."""
        leaves = {
            name: tensor.detach().requires_grad_(names is None or name in names)
            for name, tensor in self.tensors.items()
        }
        return Inputs(self.case, leaves, self.masks, self.upstream, self.real)


def _transposed(x: Tensor) -> Tensor:
    return x.transpose(2, 3).contiguous().transpose(2, 3)


def _offset(x: Tensor) -> Tensor:
    room = x.new_zeros(x.numel() + 3)
    return room[3:].view(x.shape).copy_(x)


def _sliced(x: Tensor) -> Tensor:
    samples, channels, frames, joints = x.shape
    room = x.new_zeros(samples, channels + 1, frames + 3, joints + 2)
    return room[:, 1:, 1 : frames + 1, :joints].copy_(x)


def _expanded(x: Tensor) -> Tensor:
    return x[:1].clone().expand_as(x) if x.shape[0] else x


def _reversed_axes(x: Tensor) -> Tensor:
    return x.permute(3, 2, 1, 0).contiguous().permute(3, 2, 1, 0)


#: How a tensor may lie in memory. "expanded" and "constant" also change the numbers.
LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "contiguous": lambda x: x,
    "channels_last": lambda x: x.to(memory_format=torch.channels_last),
    "offset": _offset,
    "transposed": _transposed,
    "sliced": _sliced,
    "expanded": _expanded,
    "reversed_axes": _reversed_axes,
    "constant": lambda x: x.new_ones(()).expand_as(x),
}


def _some(shape: tuple[int, ...], numbers: torch.Generator) -> Tensor:
    return torch.rand(shape, generator=numbers) < 0.7


def masks_of(case: Case, numbers: torch.Generator) -> dict[str, Tensor | None]:
    """Masks of the case's kind; see the branches for what each kind means."""
    samples, _, frames, joints = case.shape
    kind = case.masks
    ragged = torch.tensor(
        [(frames, (frames + 1) // 2, 0, 1)[sample % 4] for sample in range(samples)],
        dtype=torch.int64,
    ).clamp(max=frames)
    lengths = frame_mask = joint_mask = None
    if kind in ("lengths", "all", "all_shared"):
        lengths = ragged
    if kind in ("holes", "all", "all_shared"):
        frame_mask = _some((samples, frames), numbers)
    if kind in ("joints", "all"):
        joint_mask = _some((samples, joints), numbers)
    if kind in ("shared_joints", "all_shared"):
        joint_mask = _some((joints,), numbers)
    if kind == "nothing_real":
        frame_mask = _some((samples, frames), numbers)
        joint_mask = _some((samples, joints), numbers)
        frame_mask[:1] = False
        joint_mask[1:2] = False
    if kind == "full":
        lengths = torch.full((samples,), frames)
        frame_mask, joint_mask = torch.ones(samples, frames).bool(), torch.ones(joints).bool()
    return {"lengths": lengths, "frame_mask": frame_mask, "joint_mask": joint_mask}


def real_frames_and_joints(
    shape: tuple[int, ...], masks: dict[str, Tensor | None]
) -> tuple[Tensor, Tensor]:
    """Which frames (N, T) and joints (N, V) are real, straight from the definition."""
    samples, _, frame_total, joint_total = shape
    frames = torch.ones(samples, frame_total, dtype=torch.bool)
    joints = torch.ones(samples, joint_total, dtype=torch.bool)
    if (lengths := masks["lengths"]) is not None:
        for sample, length in enumerate(lengths.tolist()):
            frames[sample, length:] = False
    if (frame_mask := masks["frame_mask"]) is not None:
        frames &= frame_mask
    if (joint_mask := masks["joint_mask"]) is not None:
        joints &= joint_mask
    something = frames.any(1) & joints.any(1)
    return frames & something[:, None], joints & something[:, None]


def _weights(case: Case, normal: Callable[..., Tensor]) -> dict[str, Tensor]:
    samples, channels, frames, joints = case.shape
    if case.op == "pool":
        return {}
    if case.op == "couple":
        return {
            "frame_logits": 1.5 * normal(samples, case.groups, frames),
            "joint_logits": 1.5 * normal(samples, case.groups, joints),
        }
    parts = []
    for hidden in (case.hidden, case.hidden + 1):
        parts += [
            2 * normal(hidden, channels) / max(channels, 1) ** 0.5,
            normal(hidden) / 2,
            normal(case.groups, hidden) / hidden**0.5,
            normal(case.groups),
        ]
    return dict(zip(WEIGHT_NAMES, parts, strict=True))


def _upstream(case: Case, normal: Callable[..., Tensor]) -> tuple[Tensor, ...]:
    samples, channels, frames, joints = case.shape
    if case.op == "pool":
        return normal(samples, channels, frames), normal(samples, channels, joints)
    return (
        normal(*case.shape),
        normal(samples, case.groups, frames),
        normal(samples, case.groups, joints),
    )


def _spread(weight: Tensor) -> Tensor:
    """The same weight as every second element of a larger one, lying transposed in memory."""
    axes = tuple(reversed(range(weight.dim())))
    room = weight.new_zeros([2 * size for size in reversed(weight.shape)])
    return room[(slice(None, None, 2),) * weight.dim()].copy_(weight.permute(axes)).permute(axes)


def _padded_with_nan(x: Tensor, real: Tensor, layout: str) -> Tensor:
    """NaN wherever nothing is real, in all samples if the layout makes them share their numbers."""
    padding = ~real.any(0, keepdim=True) if layout == "expanded" else ~real
    return x.masked_fill(padding, torch.nan)


def make(case: Case, dtype: torch.dtype, device: str = "cpu") -> Inputs:
    """The case's inputs in a dtype, the same numbers each time.

    Padding holds NaN, in x and in the gradient of y.
    """
    numbers = torch.Generator().manual_seed(zlib.crc32(case.name.encode()))

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=numbers, dtype=torch.float64)

    arithmetic = COMPUTE_DTYPES[dtype]
    masks = masks_of(case, numbers)
    frames, joints = real_frames_and_joints(case.shape, masks)
    real = frames[:, None, :, None] & joints[:, None, None, :]
    features = _padded_with_nan(normal(*case.shape) + 0.5, real, case.layout)
    tensors = {"x": LAYOUTS[case.layout](features.to(device, dtype))}
    for name, weight in _weights(case, normal).items():
        given = weight.to(device, dtype if case.narrow_weights else arithmetic)
        tensors[name] = _spread(given) if case.strided_weights else given
    first, *others = _upstream(case, normal)
    if case.op == "pool":
        upstream = tuple(each.to(device, dtype) for each in (first, *others))
    else:
        first = _padded_with_nan(first, real, case.upstream).to(device, dtype)
        attention = (each.to(device, arithmetic) for each in others)
        upstream = (LAYOUTS[case.upstream](first), *attention)
    for tensor in tensors.values():
        tensor.requires_grad_()
    placed = {name: None if mask is None else mask.to(device) for name, mask in masks.items()}
    return Inputs(case, tensors, placed, upstream, real)


def one_sample(inputs: Inputs, sample: int) -> Inputs:
    """The same numbers for one sample of a batch."""
    batched = ("x", "frame_logits", "joint_logits")
    here = slice(sample, sample + 1)
    tensors = {
        name: tensor.detach()[here] if name in batched else tensor.detach()
        for name, tensor in inputs.tensors.items()
    }
    masks = {
        name: mask[here] if mask is not None and (mask.dim() == 2 or name == "lengths") else mask
        for name, mask in inputs.masks.items()
    }
    case = replace(inputs.case, shape=(1, *inputs.case.shape[1:]))
    upstream = tuple(each[here] for each in inputs.upstream)
    return Inputs(case, tensors, masks, upstream, inputs.real[here]).requires_grad()
