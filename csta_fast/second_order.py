"""Gradients of gradients, by differentiating a differentiable forward twice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from csta_fast import reference


def pull_back_twice(
    forward: Callable[..., tuple[Tensor, ...]],
    cotangents: tuple[Tensor | None, ...],
    primals: tuple[Tensor, ...],
    upstream: tuple[Tensor | None, ...],
) -> tuple[Tensor, ...]:
    """Gradients of ``vjp(forward, primals)(cotangents)`` for cotangents and primals.

    Without autocast, which rounds no first gradient either.
    """

    def first(cotangents: tuple[Tensor, ...], primals: tuple[Tensor, ...]) -> Any:
        outputs, pull_back, *_ = torch.func.vjp(forward, *primals)
        return tuple(pull_back(_filled(cotangents, outputs)))

    with reference.without_autocast(primals[0].device.type):
        given = _filled(cotangents, forward(*primals))
        outputs, pull_back, *_ = torch.func.vjp(first, given, primals)
        of_cotangents, of_primals = pull_back(_filled(upstream, outputs))
    return *of_cotangents, *of_primals


def _filled(values: tuple[Tensor | None, ...], like: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple(
        torch.zeros_like(shape) if value is None or value.shape != shape.shape else value
        for value, shape in zip(values, like, strict=True)
    )
