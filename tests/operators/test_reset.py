"""Starting anew: meta tensors, to_empty and reset_parameters; what no reset may change."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode

from csta_fast import CSTA
from csta_fast.models import CSTACNN, HCN

_VARIANTS: list[dict[str, Any]] = [
    {},
    {"axes": "none"},
    {"axes": "joints", "gate": "sigmoid"},
    {"axes": "frames", "streams": "motion", "groups": 2, "place": "conv2"},
]


def _clips() -> Tensor:
    return torch.randn(3, 3, 32, 20, 2)


def _emptied(module: nn.Module) -> None:
    """Real memory in place of meta tensors, holding what no computation survives."""
    assert all(weight.is_meta for weight in module.state_dict().values())
    module.to_empty(device="cpu")
    for weight in module.state_dict().values():
        weight.fill_(torch.nan)


def _with_heads_of_its_own() -> CSTA:
    return CSTA(8, frame_head=nn.Sequential(nn.Conv1d(8, 4, 1), nn.ReLU(), nn.Conv1d(4, 1, 1)))


@pytest.mark.parametrize("make", [lambda: CSTA(8, groups=2), _with_heads_of_its_own])
def test_a_layer_made_without_memory(make: Any) -> None:
    torch.manual_seed(5)
    fresh = make()
    with torch.device("meta"):
        layer = make()
    _emptied(layer)
    torch.manual_seed(5)
    layer.reset_parameters()
    for name, weight in fresh.named_parameters():
        assert torch.equal(layer.get_parameter(name), weight), name


@pytest.mark.parametrize("options", _VARIANTS)
def test_a_network_made_without_memory(options: dict[str, Any]) -> None:
    with torch.device("meta"):
        network = CSTACNN(7, 20, 32, **options)
    _emptied(network)
    torch.manual_seed(5)
    network.reset_parameters()
    torch.manual_seed(5)
    fresh = CSTACNN(7, 20, 32, **options).state_dict()
    for name, weight in network.state_dict().items():
        assert torch.equal(weight, fresh[name]), name
    plain = HCN(7, 20, 32)
    plain.load_state_dict(network.state_dict(), strict=False)
    x = _clips()
    scores = network.eval()(x)
    assert scores.std() > 0
    if options.get("gate") != "sigmoid":
        torch.testing.assert_close(scores, plain.eval()(x), rtol=1e-4, atol=1e-6)


def _reset(network: CSTACNN, how: str) -> None:
    if how == "network":
        network.reset_parameters()
    elif how == "modules":
        for module in network.modules():
            if hasattr(module, "reset_parameters"):
                module.reset_parameters()
    elif how == "parameters":
        for parameter in network.parameters():
            nn.init.normal_(parameter)
    else:
        network.requires_grad_(True)
        optimiser = torch.optim.SGD(network.parameters(), lr=1.0, weight_decay=0.1)
        network(_clips()).square().sum().backward()
        optimiser.step()


@pytest.mark.parametrize("how", ["network", "modules", "parameters", "unfreezing"])
@pytest.mark.parametrize("gate", ["softmax", "sigmoid"])
@pytest.mark.parametrize(("axes", "left_out"), [("joints", "frames"), ("frames", "joints")])
def test_an_axis_that_is_left_out_stays_uniform(
    axes: str, left_out: str, gate: str, how: str
) -> None:
    network = CSTACNN(7, 20, 32, axes=axes, gate=gate)
    _reset(network, how)
    _, attention = network.eval()(_clips(), return_attention=True)
    for found in attention.values():
        weights = getattr(found, left_out)
        one = 1 / weights.shape[-1] if gate == "softmax" else 1.0
        torch.testing.assert_close(weights, torch.full_like(weights, one))


def _checkpoint_of_earlier_versions(axes: str) -> dict[str, Tensor]:
    """Where the head of the axis left out was an ordinary one, with weights that were not used."""
    state = CSTACNN(7, 20, 32, axes="both").state_dict()
    for name, weight in state.items():
        if ("frame_head" if axes == "joints" else "joint_head") in name:
            weight.fill_(100.0) if name.endswith("b2") else None
    return state


@pytest.mark.parametrize("axes", ["joints", "frames"])
def test_checkpoints_of_earlier_versions_load(axes: str) -> None:
    network, state = CSTACNN(7, 20, 32, axes=axes), _checkpoint_of_earlier_versions(axes)
    assert list(network.state_dict()) == list(state)
    network.load_state_dict(state, strict=True)
    both = CSTACNN(7, 20, 32)
    both.load_state_dict(network.state_dict(), strict=True)
    x = _clips()
    torch.testing.assert_close(network.eval()(x), both.eval()(x))


def test_trained_attention_does_not_enter_a_network_that_leaves_it_out() -> None:
    trained = CSTACNN(7, 20, 32)
    nn.init.normal_(trained.motion.attention.frame_head.w2)
    with pytest.raises(RuntimeError, match=r"motion.attention.frame_head.w2: wanted 0 everywhere"):
        CSTACNN(7, 20, 32, axes="joints").load_state_dict(trained.state_dict())


def test_a_network_without_data() -> None:
    with FakeTensorMode():
        assert CSTACNN(7, 20, 32, axes="joints")(_clips()).shape == (3, 7)
