"""Which dtypes of x and of the weights go together, with and without autocast, on both paths."""

from __future__ import annotations

import pytest
import torch
from backends import Backend
from torch import nn

from csta_fast import CSTA

_DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


def _layer(backend: Backend, path: str, dtype: torch.dtype) -> CSTA:
    """A layer with weights that bfloat16 holds exactly; "called" heads run as modules."""
    torch.manual_seed(7)
    layer = CSTA(8, 4, groups=2, backend=backend.name)
    for parameter in layer.parameters():
        nn.init.normal_(parameter)
    layer.to(backend.device, torch.bfloat16)
    if path == "called":
        layer.joint_head.register_forward_hook(lambda *_: None)
    return layer.to(dtype)


def _goes(x: torch.dtype, weights: torch.dtype, autocast: bool) -> bool:
    arithmetic = torch.float64 if x is torch.float64 else torch.float32
    if autocast and torch.float64 not in (x, weights):
        return True
    return weights in (x, arithmetic)


@pytest.mark.parametrize("path", ["fused", "called"])
@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("dtype", _DTYPES, ids=str)
@pytest.mark.parametrize("weights", _DTYPES, ids=str)
def test_one_rule_for_both_paths(
    dtype: torch.dtype, weights: torch.dtype, autocast: bool, path: str, backend: Backend
) -> None:
    layer = _layer(backend, path, weights)
    x = torch.randn(2, 8, 5, 6).to(backend.device, dtype).requires_grad_()
    with torch.autocast(backend.device, torch.bfloat16, enabled=autocast):
        if not _goes(dtype, weights, autocast):
            with pytest.raises(TypeError, match=rf"w1: wanted .* for x of {dtype}, got {weights}"):
                layer(x)
            return
        y, attention = layer(x, return_attention=True)
    arithmetic = torch.float64 if dtype is torch.float64 else torch.float32
    assert y.dtype is dtype
    assert attention.frames.dtype is attention.joints.dtype is arithmetic
    plain = _layer(backend, path, arithmetic)
    wanted = plain(x)
    assert torch.equal(y, wanted)
    found = torch.autograd.grad(y.double().square().sum(), [x, *layer.parameters()])
    expected = torch.autograd.grad(wanted.double().square().sum(), [x, *plain.parameters()])
    for tensor, ours, theirs in zip([x, *layer.parameters()], found, expected, strict=True):
        assert ours.dtype is tensor.dtype
        torch.testing.assert_close(ours, theirs.to(tensor.dtype))


def test_linear_takes_the_same_mixtures() -> None:
    """The rule follows PyTorch's layers, but for 16-bit x with float32 weights, taken always."""
    for dtype in _DTYPES:
        for weights in _DTYPES:
            x, linear = torch.randn(2, 8).to(dtype), nn.Linear(8, 4).to(weights)
            for autocast in (False, True):
                with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
                    try:
                        linear(x)
                    except RuntimeError:
                        goes = False
                    else:
                        goes = True
                exempt = weights is torch.float32 and dtype in (torch.bfloat16, torch.float16)
                assert goes == (_goes(dtype, weights, autocast) and (autocast or not exempt))
