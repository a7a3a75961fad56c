"""First and second gradients against finite differences, in float64, on the backends' own code."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from backends import Backend
from cases import Case
from inputs import Inputs, make
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

_SMALL = (2, 4, 3, 3)
_CASES = [
    Case("plain", _SMALL, hidden=3),
    Case("groups", _SMALL, hidden=3, groups=2, scale=0.37, residual=True),
    Case("sigmoid", _SMALL, hidden=3, groups=4, gate="sigmoid"),
    Case("masks", _SMALL, hidden=3, masks="all", groups=2),
    Case("residual_masks", _SMALL, hidden=3, masks="nothing_real", residual=True),
    Case("channels_last", _SMALL, hidden=3, layout="channels_last", masks="joints"),
    Case("couple", _SMALL, op="couple", groups=2),
    Case("couple_masks", _SMALL, op="couple", masks="all_shared", gate="sigmoid", residual=True),
    Case("couple_last", _SMALL, op="couple", layout="channels_last", masks="lengths"),
    Case("pool", _SMALL, op="pool"),
    Case("pool_masks", _SMALL, op="pool", masks="all"),
    Case("pool_last", _SMALL, op="pool", layout="channels_last", masks="holes"),
]


#: What an interpreter is asked for: it takes a minute for what others do in a second.
_INTERPRETED_FIRST = {"plain", "masks", "channels_last", "couple_masks", "pool"}
_INTERPRETED_SECOND = {"couple"}


def _spare(case: Case, backend: Backend, chosen: set[str]) -> None:
    if backend.interpreted and case.name not in chosen:
        pytest.skip("finite differences take an interpreter too long: a few cases stand for all")


def _function(inputs: Inputs, backend: str) -> Callable[..., tuple[Tensor, ...]]:
    names = tuple(inputs.tensors)

    def call(*tensors: Tensor) -> tuple[Tensor, ...]:
        given = Inputs(
            inputs.case, dict(zip(names, tensors, strict=True)), inputs.masks, (), inputs.real
        )
        return tuple(given.call(backend).values())

    return call


def _finite_leaves(inputs: Inputs) -> tuple[Tensor, ...]:
    """Finite differences need numbers in the padding too."""
    tensors = [tensor.detach().clone() for tensor in inputs.tensors.values()]
    tensors[0].nan_to_num_(0.25)
    return tuple(tensor.requires_grad_() for tensor in tensors)


@pytest.mark.parametrize("case", _CASES, ids=str)
def test_first_gradients(case: Case, backend: Backend) -> None:
    _spare(case, backend, _INTERPRETED_FIRST)
    inputs = make(case, torch.float64, backend.device)
    assert gradcheck(
        _function(inputs, backend.name),
        _finite_leaves(inputs),
        atol=1e-7,
        rtol=1e-5,
        fast_mode=backend.interpreted,  # a random direction, where every call takes its time
    )


@pytest.mark.parametrize("case", _CASES, ids=str)
def test_second_gradients(case: Case, backend: Backend) -> None:
    _spare(case, backend, _INTERPRETED_SECOND)
    inputs = make(case, torch.float64, backend.device)
    assert gradgradcheck(
        _function(inputs, backend.name),
        _finite_leaves(inputs),
        atol=1e-6,
        rtol=1e-5,
        fast_mode=True,
    )


def test_finite_differences_refuse_a_wrong_gradient(backend: Backend) -> None:
    _spare(_CASES[0], backend, set())

    class Wrong(torch.autograd.Function):
        @staticmethod
        def forward(x: Tensor) -> Tensor:
            return x.clone()

        @staticmethod
        def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
            pass

        @staticmethod
        def backward(ctx: Any, grad: Tensor) -> Tensor:
            return 1.001 * grad

    inputs = make(_CASES[0], torch.float64, backend.device)
    call = _function(inputs, backend.name)
    x, *others = _finite_leaves(inputs)
    with pytest.raises(RuntimeError, match="Jacobian mismatch"):
        gradcheck(lambda x: call(Wrong.apply(x), *others), (x,), atol=1e-7, rtol=1e-5)
