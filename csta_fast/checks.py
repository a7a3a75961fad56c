"""What an operation accepts, said once: one message per mistake, naming argument, wanted and got.

Backends that cannot refuse bad arguments themselves, and the compiler, run these before a call;
for the native ones they run after a refusal, to say what was wrong.
"""

from __future__ import annotations

from contextlib import suppress
from math import inf
from numbers import Integral, Real
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from csta_fast import reference
from csta_fast.types import COMPUTE_DTYPES, GATE_CODES, HeadWeights

_HEAD_SHAPES = ("(H, C)", "(H,)", "(G, H)", "(G,)")


def choices(gate: str, scale: str | float, residual: bool) -> tuple[int, float | None]:
    """Gate and scale as the operations take them."""
    try:
        code = GATE_CODES[gate]
    except (KeyError, TypeError):
        raise ValueError(f"gate: wanted 'softmax' or 'sigmoid', got {gate!r}") from None
    if residual is not True and residual is not False:  # a weight, say, would count as True
        raise TypeError(f"residual: wanted True or False, got {residual!r}")
    return code, _scale_factor(scale)


def _scale_factor(scale: str | float) -> float | None:
    """None for "mean", else a number."""
    if isinstance(scale, str):
        if scale == "mean":
            return None
        if scale == "sum":
            return 1.0
    elif isinstance(scale, (int, float, Real)) and not isinstance(scale, bool):
        with suppress(OverflowError):
            factor = float(scale)
            if abs(factor) < inf:
                return factor
    raise ValueError(f"scale: wanted 'mean', 'sum' or a finite number, got {scale!r}")


def count(name: str, value: int) -> int:
    """Check a size that somebody chose."""
    if not isinstance(value, Integral) or isinstance(value, bool):
        raise TypeError(f"{name}: wanted a whole number, got {value!r}")
    if value < 1:
        raise ValueError(f"{name}: wanted at least 1, got {value}")
    return int(value)


def tensor(x: Tensor) -> None:
    if not isinstance(x, Tensor):
        raise TypeError(f"x: wanted a tensor, got {type(x).__name__}")


def features(x: Tensor) -> torch.dtype:
    """Check x (N, C, T, V) and return the dtype it is computed in."""
    tensor(x)
    if x.is_nested or x.layout is not torch.strided:
        got = "a nested one" if x.is_nested else x.layout
        raise TypeError(f"x: wanted a dense tensor, got {got}")
    if x.dim() != 4:
        raise ValueError(f"x: wanted 4 dimensions (N, C, T, V), got shape {tuple(x.shape)}")
    arithmetic = COMPUTE_DTYPES.get(x.dtype)
    if arithmetic is None:
        raise TypeError(f"x: wanted float64, float32, float16 or bfloat16, got {x.dtype}")
    return arithmetic


def channels(x: Tensor, wanted: int, source: str) -> None:
    """Check x (N, C, T, V) against a number of channels and whose number that is."""
    if x.shape[1] != wanted:
        raise ValueError(
            f"x: wanted (N, C, T, V) with C = {wanted} of {source}, got shape {tuple(x.shape)}"
        )


def heads(
    x: Tensor, arithmetic: torch.dtype, frame_head: HeadWeights, joint_head: HeadWeights
) -> None:
    frame_groups = _head("frame_head", x, arithmetic, frame_head)
    joint_groups = _head("joint_head", x, arithmetic, joint_head)
    if frame_groups != joint_groups:
        raise ValueError(
            "joint_head: wanted as many groups G as frame_head, "
            f"got {joint_groups} beside {frame_groups}"
        )
    _groups("frame_head", x, frame_groups)


def _head(name: str, x: Tensor, arithmetic: torch.dtype, head: HeadWeights) -> int:
    try:
        w1, b1, w2, b2 = head
        hidden, groups = w1.shape[0], w2.shape[0]
        fits = (
            hidden > 0
            and w1.shape == (hidden, x.shape[1])
            and b1.shape == (hidden,)
            and w2.shape == (groups, hidden)
            and b2.shape == (groups,)
        )
    except (TypeError, ValueError, AttributeError, IndexError):
        _head_mistake(name, x, arithmetic, head)
    if not fits:
        _head_mistake(name, x, arithmetic, head)
    dtype, device = x.dtype, x.device
    for weight in head:
        if (
            (weight.dtype is not arithmetic and weight.dtype is not dtype)
            or weight.device != device
            or weight.layout is not torch.strided
        ):
            _head_mistake(name, x, arithmetic, head)
    return groups


def _head_mistake(name: str, x: Tensor, arithmetic: torch.dtype, head: Any) -> NoReturn:
    if not isinstance(head, (tuple, list)) or len(head) != 4:
        got = f"{len(head)} of them" if isinstance(head, (tuple, list)) else type(head).__name__
        raise TypeError(f"{name}: wanted HeadWeights(w1, b1, w2, b2), four tensors, got {got}")
    for part, weight, shape in zip(HeadWeights._fields, head, _HEAD_SHAPES, strict=True):
        if not isinstance(weight, Tensor):
            raise TypeError(f"{name}.{part}: wanted a tensor, got {type(weight).__name__}")
        if weight.dtype not in (x.dtype, arithmetic):
            wanted = " or ".join(str(dtype) for dtype in dict.fromkeys((x.dtype, arithmetic)))
            raise TypeError(
                f"{name}.{part}: wanted {wanted} for x of {x.dtype}, got {weight.dtype}"
            )
        if weight.layout is not torch.strided:
            raise TypeError(f"{name}.{part}: wanted a dense tensor, got {weight.layout}")
        if weight.device != x.device:
            raise ValueError(f"{name}.{part}: wanted x's device {x.device}, got {weight.device}")
        if weight.dim() != shape.count(",") + (not shape.endswith(",)")):
            raise ValueError(f"{name}.{part}: wanted shape {shape}, got {tuple(weight.shape)}")
    if head[0].shape[0] == 0:
        raise ValueError(f"{name}.w1: wanted H of at least 1, got {tuple(head[0].shape)}")
    channels(x, head[0].shape[1], f"{name}.w1")
    shapes = {
        part: tuple(weight.shape) for part, weight in zip(HeadWeights._fields, head, strict=True)
    }
    raise ValueError(
        f"{name}: wanted w1 (H, C), b1 (H,), w2 (G, H), b2 (G,) with C = {x.shape[1]} "
        f"channels of x, got {shapes}"
    )


def head_dtypes(means: Tensor, weights: HeadWeights) -> None:
    """Check the weights of a head that is called as a module on means (N, C, L)."""
    arithmetic = COMPUTE_DTYPES.get(means.dtype)
    if arithmetic is None:
        raise TypeError(f"means: wanted a floating-point tensor, got {means.dtype}")
    mixed = arithmetic == torch.float32 and reference.autocasts(means.device.type)
    known = {means.dtype, arithmetic} | ({torch.float16, torch.bfloat16} if mixed else set())
    for part, weight in zip(HeadWeights._fields, weights, strict=True):
        if weight.dtype not in known:
            wanted = " or ".join(str(dtype) for dtype in dict.fromkeys((means.dtype, arithmetic)))
            raise TypeError(f"{part}: wanted {wanted} for x of {means.dtype}, got {weight.dtype}")


def module(name: str, head: nn.Module) -> nn.Module:
    if not isinstance(head, nn.Module):
        raise TypeError(f"{name}: wanted a module, got {type(head).__name__}")
    return head


def scores(name: str, given: Tensor, means: Tensor, groups: int) -> None:
    """Check what a head of the user's own made of means (N, C, L)."""
    wanted = (means.shape[0], groups, means.shape[2])
    if not isinstance(given, Tensor) or given.shape != wanted:
        got = tuple(given.shape) if isinstance(given, Tensor) else type(given).__name__
        raise ValueError(f"{name}: wanted it to give (N, G, L) = {wanted}, got {got}")


def logits(x: Tensor, frame_logits: Tensor, joint_logits: Tensor) -> None:
    samples, _, frames, joints = x.shape
    for name, given, length, axis in (
        ("frame_logits", frame_logits, frames, "T"),
        ("joint_logits", joint_logits, joints, "V"),
    ):
        if not isinstance(given, Tensor) or given.dtype not in COMPUTE_DTYPES:
            got = given.dtype if isinstance(given, Tensor) else type(given).__name__
            raise TypeError(f"{name}: wanted a floating-point tensor, got {got}")
        if given.layout is not torch.strided:
            raise TypeError(f"{name}: wanted a dense tensor, got {given.layout}")
        if given.device != x.device:
            raise ValueError(f"{name}: wanted x's device {x.device}, got {given.device}")
        if given.dim() != 3 or given.shape[0] != samples or given.shape[2] != length:
            raise ValueError(
                f"{name}: wanted shape (N, G, {axis}) = ({samples}, G, {length}), "
                f"got {tuple(given.shape)}"
            )
    groups = frame_logits.shape[1]
    if joint_logits.shape[1] != groups:
        raise ValueError(
            "joint_logits: wanted as many groups G as frame_logits, "
            f"got {joint_logits.shape[1]} beside {groups}"
        )
    _groups("frame_logits", x, groups)


def _groups(name: str, x: Tensor, groups: int) -> None:
    channels = x.shape[1]
    if groups == 1:
        return
    if groups == 0 or channels % groups:
        raise ValueError(
            f"{name}: wanted a number of groups G that divides the {channels} channels of x, "
            f"got {groups}"
        )


def masks(
    x: Tensor, lengths: Tensor | None, frame_mask: Tensor | None, joint_mask: Tensor | None
) -> None:
    samples, _, frames, joints = x.shape
    if lengths is not None:
        _mask("lengths", x, lengths, torch.int64)
        if lengths.shape != (samples,):
            _mask_shape("lengths", f"(N,) = ({samples},)", lengths)
        if _can_be_read(lengths):
            _lengths_range(lengths, frames)
    if frame_mask is not None:
        _mask("frame_mask", x, frame_mask, torch.bool)
        if frame_mask.shape != (samples, frames):
            _mask_shape("frame_mask", f"(N, T) = ({samples}, {frames})", frame_mask)
    if joint_mask is not None:
        _mask("joint_mask", x, joint_mask, torch.bool)
        # By its dimensions first: a compiler would take samples for joints where they are as many.
        fits = (joints,) if joint_mask.dim() == 1 else (samples, joints)
        if joint_mask.shape != fits:
            wanted = f"(N, V) = ({samples}, {joints}) or (V,) = ({joints},)"
            _mask_shape("joint_mask", wanted, joint_mask)


def _can_be_read(tensor: Tensor) -> bool:
    """Whether values cost nothing to look at: no compiler, no transform, no wait for a device."""
    return (
        tensor.is_cpu
        and type(tensor) is Tensor
        and not torch.compiler.is_compiling()
        and not torch._C._are_functorch_transforms_active()
    )


def _lengths_range(lengths: Tensor, frames: int) -> None:
    wrong = ((lengths < 0) | (lengths > frames)).nonzero()
    if wrong.numel():
        sample = int(wrong[0])
        got = f"{int(lengths[sample])} for sample {sample}"
        raise ValueError(f"lengths: wanted 0 to T = {frames}, got {got}")


def _mask(name: str, x: Tensor, given: Tensor, dtype: torch.dtype) -> None:
    if not isinstance(given, Tensor) or given.dtype is not dtype:
        got = given.dtype if isinstance(given, Tensor) else type(given).__name__
        raise TypeError(f"{name}: wanted a tensor of {dtype}, got {got}")
    if given.layout is not torch.strided:
        raise TypeError(f"{name}: wanted a dense tensor, got {given.layout}")
    if given.device != x.device:
        raise ValueError(f"{name}: wanted x's device {x.device}, got {given.device}")


def _mask_shape(name: str, wanted: str, given: Tensor) -> NoReturn:
    raise ValueError(f"{name}: wanted shape {wanted}, got {tuple(given.shape)}")
