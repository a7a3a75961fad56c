"""No speed for a wrong result: what a variant returns, against the reference in float64."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bench.groups import Direction
from bench.timing import Variant
from bench.variants import Problem
from csta_fast import HeadWeights, reference

#: Largest relative L2 error by dtype: of y, of the gradient of x, of a head's weight gradients.
#: Wide enough for the rivals, which round 16-bit values at every step, and for gradients through a
#: relu that rounding switches at zero: among millions of few-channel means some always are (3e-3 in
#: eager PyTorch). Zeros have error 1 and a permuted result about 1.4, so every bound rejects both.
TOLERANCES: dict[torch.dtype, dict[str, float]] = {
    torch.float32: {"y": 1e-5, "grad_x": 1e-2, "grad_frame_head": 1e-2, "grad_joint_head": 1e-2},
    torch.float16: {"y": 1e-2, "grad_x": 5e-2, "grad_frame_head": 0.2, "grad_joint_head": 0.2},
    torch.bfloat16: {"y": 5e-2, "grad_x": 0.1, "grad_frame_head": 0.3, "grad_joint_head": 0.3},
}
_CHUNK_ELEMENTS = 2**22


class WrongResultError(AssertionError):
    """A variant is wrong, so its group has no times."""


@dataclass(slots=True)
class _Error:
    """Relative L2 error, gathered chunk by chunk."""

    difference: float = 0.0
    size: float = 0.0

    def add(self, result: Tensor, exact: Tensor) -> None:
        self.difference += (result.double() - exact).square().sum().item()
        self.size += exact.square().sum().item()

    @property
    def relative(self) -> float:
        return math.sqrt(self.difference / (self.size or 1.0))


def _exact_heads(problem: Problem) -> tuple[HeadWeights, HeadWeights]:
    frame_head, joint_head = (
        HeadWeights(*(weight.double().requires_grad_() for weight in head))
        for head in (problem.frame_head, problem.joint_head)
    )
    return frame_head, joint_head


def errors(
    results: Sequence[Tensor], problem: Problem, direction: Direction, lengths: Tensor | None
) -> dict[str, float]:
    """Relative L2 errors of a variant's results: y, or gradients, or both for a step."""
    y = results[0] if direction != "backward" else None
    grad_x = results[-9] if direction != "forward" else None  # before eight weights' gradients
    gathered = {name: _Error() for name in TOLERANCES[problem.x.dtype]}
    frame_head, joint_head = _exact_heads(problem)
    chunk = max(1, _CHUNK_ELEMENTS // max(1, problem.x[0].numel()))
    for start in range(0, len(problem.x), chunk):
        part = slice(start, start + chunk)
        x = problem.x[part].double().requires_grad_(grad_x is not None)
        with torch.set_grad_enabled(grad_x is not None):
            exact, _ = reference.csta(
                x, frame_head, joint_head, lengths=None if lengths is None else lengths[part]
            )
        if y is not None:
            gathered["y"].add(y[part], exact.detach())
        if grad_x is not None:
            assert problem.grad_y is not None
            torch.autograd.backward(exact, problem.grad_y[part].double())
            assert x.grad is not None
            gathered["grad_x"].add(grad_x[part], x.grad)
    if grad_x is not None:
        for name, head, given in (
            ("grad_frame_head", frame_head, results[-8:-4]),
            ("grad_joint_head", joint_head, results[-4:]),
        ):
            for weight, gradient in zip(head, given, strict=True):
                assert weight.grad is not None
                gathered[name].add(gradient, weight.grad)
    return {name: error.relative for name, error in gathered.items()}


def check(variant: Variant, problem: Problem, direction: Direction) -> None:
    """Raise WrongResultError unless what the variant's timed call returns is right."""
    if variant.prepare is not None:
        variant.prepare()
    check_results(variant, problem, direction, variant.call())


def check_results(
    variant: Variant, problem: Problem, direction: Direction, results: Tensor | Sequence[Tensor]
) -> None:
    """Raise WrongResultError unless these results of a variant are right."""
    if isinstance(results, Tensor):
        results = (results,)
    if variant.name == "copy":
        right = torch.equal(results[0], problem.x)
        found: dict[str, float] = {"y": 0.0 if right else 1.0}
    else:
        lengths = problem.lengths if variant.lengths else None
        found = errors(results, problem, direction, lengths)
    bounds = TOLERANCES[problem.x.dtype]
    wrong = [
        f"{name} {error:.1e} (allowed {bounds[name]:.0e})"
        for name, error in found.items()
        if not error <= bounds[name]  # a NaN is wrong too
    ]
    if wrong:
        raise WrongResultError(f"{variant.name} is wrong, relative L2 error of {', '.join(wrong)}")
