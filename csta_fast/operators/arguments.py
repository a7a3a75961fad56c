"""Checks of an operator's flat arguments, for kernels that do not refuse bad ones themselves."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from torch import Tensor

from csta_fast import checks
from csta_fast.operators.signature import (
    SIGNATURES,
    Choices,
    CoupleBackwardInputs,
    CoupleInputs,
    CstaBackwardInputs,
    CstaInputs,
    PoolBackwardInputs,
    PoolInputs,
)
from csta_fast.types import COMPUTE_DTYPES, GATE_CODES


def _check_csta(inputs: CstaInputs | CstaBackwardInputs) -> None:
    x = inputs.x
    checks.heads(x, checks.features(x), inputs.frame_head, inputs.joint_head)
    checks.masks(x, *inputs.masks)
    _check_choices(inputs.choices)


def _check_couple(inputs: CoupleInputs | CoupleBackwardInputs) -> None:
    checks.features(inputs.x)
    checks.logits(inputs.x, *inputs.logits)
    checks.masks(inputs.x, *inputs.masks)
    _check_choices(inputs.choices)


def _check_pool(inputs: PoolInputs) -> None:
    checks.features(inputs.x)
    checks.masks(inputs.x, *inputs.masks)


def _check_choices(choices: Choices) -> None:
    gate, scale, _ = choices
    if gate not in GATE_CODES.values():
        raise ValueError(f"gate: wanted one of {list(GATE_CODES.values())}, got {gate}")
    if scale is not None and not math.isfinite(scale):
        raise ValueError(f"scale: wanted a finite number or None, got {scale}")


def _check_csta_backward(inputs: CstaBackwardInputs) -> None:
    _check_csta(inputs)
    _check_upstream(inputs.x, inputs.frame_head.w2.shape[0], inputs)


def _check_couple_backward(inputs: CoupleBackwardInputs) -> None:
    _check_couple(inputs)
    _check_upstream(inputs.x, inputs.logits.frame_logits.shape[1], inputs)


def _check_upstream(
    x: Tensor, groups: int, inputs: CstaBackwardInputs | CoupleBackwardInputs
) -> None:
    """The gradient of y, and the attention and its gradients, of the frames and of the joints."""
    samples, _, *lengths = x.shape
    wanted = [(samples, groups, length) for length in lengths]
    grad_y, *grad_attention = inputs.upstream
    given = [(grad_y, tuple(x.shape), x.dtype)]
    given += [
        (each, shape, COMPUTE_DTYPES[x.dtype])
        for each, shape in zip((*grad_attention, *inputs.attention), 2 * wanted, strict=True)
    ]
    for each, shape, dtype in given:
        if each is not None and (tuple(each.shape) != shape or each.dtype is not dtype):
            raise ValueError(
                f"gradients and attention: wanted shape {shape} of {dtype}, "
                f"got {tuple(each.shape)} of {each.dtype}"
            )


def _check_pool_backward(inputs: PoolBackwardInputs) -> None:
    frames, joints, masks, _ = inputs
    if frames.dim() != 3 or joints.dim() != 3 or frames.shape[:2] != joints.shape[:2]:
        raise ValueError(
            "gradients: wanted (N, C, T) and (N, C, V), "
            f"got {tuple(frames.shape)} and {tuple(joints.shape)}"
        )
    if frames.dtype not in COMPUTE_DTYPES or frames.dtype is not joints.dtype:
        raise TypeError(
            f"gradients: wanted one floating dtype, got {frames.dtype} and {joints.dtype}"
        )
    checks.masks(frames.new_empty(()).expand(*frames.shape, joints.shape[2]), *masks)


def _flat(name: str, check: Callable[[Any], None]) -> Callable[[tuple[Any, ...]], None]:
    signature = SIGNATURES[name]
    return lambda args: check(signature.unflatten(args))


#: The check of every operator; it raises TypeError or ValueError.
CHECKS: dict[str, Callable[[tuple[Any, ...]], None]] = {
    name: _flat(name, check)
    for name, check in (
        ("csta", _check_csta),
        ("csta_backward", _check_csta_backward),
        ("couple", _check_couple),
        ("couple_backward", _check_couple_backward),
        ("pool", _check_pool),
        ("pool_backward", _check_pool_backward),
    )
}
