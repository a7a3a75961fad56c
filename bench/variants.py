"""A group's tensors, and one callable per variant over them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from bench.groups import HIDDEN, Direction, Group, is_own
from bench.rivals import Layer, rival
from bench.timing import Variant
from csta_fast import HeadWeights, functional

#: Frames of an NTU RGB+D sequence padded to 300: 75 on average, most between 40 and 110.
_MEAN_LENGTH, _SHORTEST, _SHAPE_OF_LENGTHS = 75, 32, 2.0


@dataclass(frozen=True, slots=True)
class Problem:
    """The tensors that every variant of a group computes with."""

    x: Tensor  # (N, C, T, V)
    grad_y: Tensor | None  # like x; None for a forward
    frame_head: HeadWeights
    joint_head: HeadWeights
    lengths: Tensor | None  # (N,)


def ntu_lengths(samples: int, frames: int) -> Tensor:
    """Lengths (N,) with the mean and the spread of NTU RGB+D; the mean is exact to a frame."""
    spread = (_MEAN_LENGTH - _SHORTEST) / _SHAPE_OF_LENGTHS
    gamma = torch.distributions.Gamma(_SHAPE_OF_LENGTHS, 1 / spread)
    lengths = (_SHORTEST + gamma.sample((samples,))).round().long()
    lengths += round(_MEAN_LENGTH - lengths.double().mean().item())
    return lengths.clamp(1, frames)


def _head(channels: int, dtype: torch.dtype) -> HeadWeights:
    """Weights that spread the logits of random features by about one."""
    return HeadWeights(
        (torch.randn(HIDDEN, channels) * (6 / channels) ** 0.5).to(dtype),
        torch.randn(HIDDEN).mul_(0.1).to(dtype),
        torch.randn(1, HIDDEN).to(dtype),
        torch.randn(1).to(dtype),
    )


def _features(group: Group) -> Tensor:
    layout = torch.channels_last if group.channels_last else torch.contiguous_format
    dtype = getattr(torch, group.dtype)
    empty = torch.empty(group.shape, dtype=dtype, device=group.device, memory_format=layout)
    return empty.normal_()


def make_problem(group: Group) -> Problem:
    torch.manual_seed(0)
    dtype = getattr(torch, group.dtype)
    samples, channels, frames, _ = group.shape
    x = _features(group)
    grad_y = None if group.direction == "forward" else _features(group)
    heads = [_head(channels, dtype) for _ in range(2)]
    frame_head, joint_head = (HeadWeights(*(w.to(group.device) for w in head)) for head in heads)
    lengths = ntu_lengths(samples, frames) if group.lengths else None
    return Problem(x, grad_y, frame_head, joint_head, lengths)


def another_problem(group: Group, problem: Problem) -> Problem:
    """The same weights over other features, so that no cache holds what is read next."""
    grad_y = None if group.direction == "forward" else _features(group)
    return replace(problem, x=_features(group), grad_y=grad_y)


def layer_named(name: str, backend: str | None) -> Layer:
    """csta_fast on that backend (None: the one it chooses itself), or a rival."""
    return partial(functional.csta, backend=backend) if name == "csta_fast" else rival(name)


def differentiable(problem: Problem) -> tuple[Tensor, HeadWeights, HeadWeights]:
    """x and both heads as leaves that want gradients."""
    x = problem.x.detach().requires_grad_()
    frame_head, joint_head = (
        HeadWeights(*(weight.detach().requires_grad_() for weight in head))
        for head in (problem.frame_head, problem.joint_head)
    )
    return x, frame_head, joint_head


def _variant(name: str, layer: Layer, problem: Problem, direction: Direction) -> Variant:
    """A layer's forward, or its step, or its backward with the forward left untimed."""
    if direction == "forward":
        return Variant(name, partial(layer, problem.x, problem.frame_head, problem.joint_head))
    x, frame_head, joint_head = differentiable(problem)
    leaves = (x, *frame_head, *joint_head)

    def gradients(y: Tensor) -> tuple[Tensor, ...]:
        return torch.autograd.grad(y, leaves, problem.grad_y)

    if direction == "step":

        def step() -> tuple[Tensor, ...]:
            y = layer(x, frame_head, joint_head)
            return (y, *gradients(y))

        return Variant(name, step)

    waiting: list[Tensor] = []
    return Variant(
        name,
        lambda: gradients(waiting.pop()),
        prepare=lambda: waiting.append(layer(x, frame_head, joint_head)),
    )


def _copy(problem: Problem) -> Variant:
    target = torch.empty_like(problem.x)
    return Variant("copy", partial(target.copy_, problem.x))


def _ours(name: str, group: Group, problem: Problem, backend: str | None) -> Variant:
    backend = name.partition("-")[2] or backend
    lengths = problem.lengths if is_own(name) else None
    layer = partial(functional.csta, lengths=lengths, backend=backend)
    made = _variant(name, layer, problem, group.direction)
    return Variant(made.name, made.call, made.prepare, lengths=lengths is not None)


def _maker(name: str, group: Group, backend: str | None) -> Callable[[Problem], Variant]:
    if name == "copy":
        return _copy
    if is_own(name) or name == "padded":
        return lambda problem: _ours(name, group, problem, backend)
    layer = rival(name)
    return lambda problem: _variant(name, layer, problem, group.direction)


def make_variant(
    name: str, group: Group, problem: Problem, backend: str | None, others: Sequence[Problem] = ()
) -> Variant:
    """The variant of that name: copy, a rival, csta_fast, or csta_fast told of no padding.

    Args:
        name: "csta_fast-" and a backend's name forces that backend.
        group, problem: what is computed.
        backend: the backend to force, or None.
        others: problems that its rotation goes on with.
    """
    make = _maker(name, group, backend)
    return replace(make(problem), rotation=tuple(make(other).call for other in others))
