"""Gradients of a loss on the attention and not on y: nothing but that comes back."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from backends import Backend
from cases import Case
from inputs import Inputs, make
from torch import Tensor

_RESULTS = ("frame_attention", "joint_attention")


def _gradients(inputs: Inputs, backend: str, results: tuple[str, ...]) -> dict[str, Tensor]:
    """Of the named results alone, zeros for what they do not depend on."""
    leaves = inputs.requires_grad()
    found = leaves.call(backend)
    upstream = dict(zip(found, leaves.upstream, strict=True))
    gradients = torch.autograd.grad(
        [found[name] for name in results], tuple(leaves.tensors.values()),
        [upstream[name] for name in results], allow_unused=True, materialize_grads=True,
    )  # fmt: skip
    return dict(zip(leaves.tensors, gradients, strict=True))


def _with(inputs: Inputs, **tensors: Tensor) -> Inputs:
    return replace(inputs, tensors={**inputs.tensors, **tensors})


def _compare(inputs: Inputs, backend: Backend, results: tuple[str, ...]) -> None:
    ours = _gradients(inputs, backend.name, results)
    theirs = _gradients(inputs, "reference", results)
    torch.testing.assert_close(ours, theirs, equal_nan=True, rtol=1e-4, atol=1e-5)


@pytest.mark.quick
@pytest.mark.parametrize("results", [_RESULTS[:1], _RESULTS[1:], _RESULTS], ids="+".join)
@pytest.mark.parametrize("gate", ["softmax", "sigmoid"])
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("masks", ["none", "all"])
@pytest.mark.parametrize("op", ["csta", "couple"])
def test_of_finite_features(
    op: str, masks: str, layout: str, gate: str, results: tuple[str, ...], backend: Backend
) -> None:
    if backend.interpreted and (gate == "softmax") != (layout == "contiguous"):
        pytest.skip("each gate and each layout once are enough for an interpreter's time")
    case = Case("alone", (3, 6, 9, 17), op=op, masks=masks, layout=layout, gate=gate, groups=2,
                residual=True)  # fmt: skip
    _compare(make(case, torch.float32, backend.device), backend, results)


@pytest.mark.quick
@pytest.mark.parametrize("results", [_RESULTS[:1], _RESULTS[1:]], ids="+".join)
@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize(
    "at", ["x", "frame_head.w1", "joint_head.w1", "frame_head.w2", "joint_head.w2"]
)
def test_of_csta_what_is_not_finite_stays_in_its_axis(
    at: str, value: float, results: tuple[str, ...], backend: Backend
) -> None:
    if backend.interpreted and value < 0:
        pytest.skip("one infinity is enough for an interpreter's time")
    case = Case("alone", (3, 6, 16, 16), op="csta", groups=2)
    inputs = make(case, torch.float32, backend.device)
    tensor = inputs.tensors[at].detach().clone()
    tensor.view(-1)[3] = value
    _compare(_with(inputs, **{at: tensor}), backend, results)


@pytest.mark.quick
@pytest.mark.parametrize("results", [_RESULTS[:1], _RESULTS[1:]], ids="+".join)
@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("at", ["frame_logits", "joint_logits"])
def test_of_couple_what_is_not_finite_stays_in_its_axis(
    at: str, value: float, results: tuple[str, ...], backend: Backend
) -> None:
    inputs = make(Case("alone", (3, 6, 9, 17), op="couple", groups=2), torch.float32,
                  backend.device)  # fmt: skip
    logits = inputs.tensors[at].detach().clone()
    logits[0, 1, 2] = value
    _compare(_with(inputs, **{at: logits}), backend, results)
