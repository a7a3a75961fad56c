"""The layer: identity at the start, options, heads of the user's own, its text."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from backends import Backend
from contract import assert_like
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune

import csta_fast
from csta_fast import CSTA, HeadWeights, functional


@pytest.mark.parametrize("groups", [1, 2, 8])
def test_a_fresh_layer_is_the_identity(groups: int, backend: Backend) -> None:
    x = torch.randn(3, 8, 9, 17, device=backend.device)
    layer = CSTA(8, groups=groups, backend=backend.name).to(x.device)
    torch.testing.assert_close(layer(x), x, rtol=1e-6, atol=0)
    lengths = torch.tensor([9, 4, 0], device=x.device)
    real = (torch.arange(9, device=x.device) < lengths[:, None])[:, None, :, None]
    torch.testing.assert_close(layer(x, lengths=lengths), x * real, rtol=1e-6, atol=0)


def test_other_options_at_the_start(backend: Backend) -> None:
    x = torch.randn(3, 8, 9, 17, device=backend.device)
    for options, factor in (
        ({"residual": True}, 2.0),
        ({"scale": "sum"}, 1 / (9 * 17)),
        ({"scale": 0.5}, 0.5 / (9 * 17)),
        ({"gate": "sigmoid"}, 0.25),
        ({"gate": "sigmoid", "scale": 4}, 1.0),
    ):
        y = CSTA(8, backend=backend.name, **options).to(x.device)(x)
        torch.testing.assert_close(y, factor * x, rtol=1e-6, atol=0)


@pytest.mark.quick
def test_the_layer_calls_the_operation(backend: Backend) -> None:
    layer = CSTA(8, 5, groups=2, gate="sigmoid", scale=0.3, residual=True, backend=backend.name)
    for parameter in layer.parameters():
        nn.init.normal_(parameter)
    layer.to(backend.device)
    x = torch.randn(3, 8, 9, 17, device=backend.device)
    masks = {
        "lengths": torch.tensor([9, 4, 0], device=x.device),
        "frame_mask": torch.rand(3, 9, device=x.device) < 0.7,
        "joint_mask": torch.rand(17, device=x.device) < 0.7,
    }
    y, attention = layer(x, return_attention=True, **masks)
    frame_head, joint_head = (
        HeadWeights(head.w1, head.b1, head.w2, head.b2)
        for head in (layer.frame_head, layer.joint_head)
    )
    wanted, wanted_attention = functional.csta(
        x, frame_head, joint_head, gate="sigmoid", scale=0.3, residual=True,
        return_attention=True, backend=backend.name, **masks,
    )  # fmt: skip
    assert torch.equal(y, wanted)
    assert torch.equal(attention.frames, wanted_attention.frames)
    assert torch.equal(attention.joints, wanted_attention.joints)
    assert torch.equal(layer(x, **masks), wanted)


class _Recorder(nn.Module):
    """A head that remembers what it was given."""

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.scores = nn.Conv1d(8, groups, 3, padding=1)

    def forward(self, means: Tensor) -> Tensor:
        self.means = means
        return self.scores(means)


@pytest.mark.quick
@pytest.mark.parametrize("which", [("frame_head",), ("joint_head",), ("frame_head", "joint_head")])
def test_heads_of_the_users_own(which: tuple[str, ...], backend: Backend) -> None:
    heads = {name: _Recorder(2) for name in which}
    layer = CSTA(8, groups=2, backend=backend.name, **heads).to(backend.device)
    x = torch.randn(3, 8, 9, 17, device=backend.device, requires_grad=True)
    lengths = torch.tensor([9, 4, 0], device=x.device)
    y, attention = layer(x, lengths=lengths, return_attention=True)
    frame_means, joint_means = functional.pool(x, lengths=lengths, backend="reference")
    for name, means in (("frame_head", frame_means), ("joint_head", joint_means)):
        if name in heads:
            torch.testing.assert_close(heads[name].means, means)
    wanted = functional.couple(
        x, layer.frame_head(frame_means), layer.joint_head(joint_means), lengths=lengths,
        backend="reference",
    )  # fmt: skip
    torch.testing.assert_close(y, wanted)
    assert attention.frames.shape == (3, 2, 9)
    tensors = [x, *layer.parameters()]
    found = torch.autograd.grad(y.square().sum(), tensors)
    expected = torch.autograd.grad(wanted.square().sum(), tensors)
    names = ["x", *dict(layer.named_parameters())]
    assert_like(dict(zip(names, found, strict=True)), dict(zip(names, expected, strict=True)))


def test_built_in_heads_work_as_modules() -> None:
    layer, means = CSTA(8, 5, groups=2), torch.randn(3, 8, 9)
    for parameter in layer.parameters():
        nn.init.normal_(parameter)
    w1, b1, w2, b2 = layer.frame_head.weights
    wanted = w2 @ torch.relu(w1 @ means + b1[:, None]) + b2[:, None]
    torch.testing.assert_close(layer.frame_head(means), wanted)


class _Doubled(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return 2 * weight


def test_weights_that_are_not_the_head_s_own_parameters() -> None:
    layer, x = CSTA(8), torch.randn(2, 8, 5, 6)
    nn.init.normal_(layer.frame_head.w2)
    doubled = copy.deepcopy(layer)
    with torch.no_grad():
        doubled.frame_head.w1 *= 2
    wanted = doubled(x)
    assert not torch.allclose(layer(x), wanted)
    exchanged = {"frame_head.w1": 2 * layer.frame_head.w1}
    torch.testing.assert_close(torch.func.functional_call(layer, exchanged, (x,)), wanted)
    parametrize.register_parametrization(layer.frame_head, "w1", _Doubled())
    torch.testing.assert_close(layer(x), wanted)


def _with_scores(layer: CSTA) -> CSTA:
    """A layer whose attention is not uniform."""
    for head in (layer.frame_head, layer.joint_head):
        nn.init.normal_(head.w2)
    return layer


def test_hooks_of_built_in_heads_are_called(backend: Backend) -> None:
    layer = _with_scores(CSTA(8, backend=backend.name)).to(backend.device)
    x, seen = torch.randn(2, 8, 5, 6, device=backend.device), []
    wanted = layer(x)
    layer.joint_head.register_forward_hook(lambda head, means, logits: seen.append(logits.shape))
    torch.testing.assert_close(layer(x), wanted)
    assert seen == [(2, 1, 6)]


@pytest.mark.quick
@pytest.mark.parametrize("make", [
    lambda head: prune.l1_unstructured(head, "w1", 0.5),
    lambda head: nn.utils.spectral_norm(head, "w1"),
    lambda head: parametrizations.weight_norm(head, "w1"),
])  # fmt: skip
def test_weights_that_are_made_anew_for_every_call(make: Callable[[nn.Module], object]) -> None:
    layer, x = _with_scores(CSTA(8)), torch.randn(2, 8, 5, 6)
    make(layer.frame_head)
    made_of = [value for name, value in layer.frame_head.named_parameters() if "w1" in name]
    optimizer = torch.optim.SGD(made_of, lr=1e-3)
    results = []
    for _ in range(3):
        results.append(layer(x).detach())
        optimizer.zero_grad()
        (layer(x) - 1).square().sum().backward()
        optimizer.step()
    assert not torch.allclose(results[0], results[1])
    assert not torch.allclose(results[1], results[2])


def test_a_head_that_is_put_in_later() -> None:
    layer, x = CSTA(8), torch.randn(2, 8, 5, 6)
    layer.frame_head = nn.Conv1d(8, 1, 1)
    frame_means, joint_means = functional.pool(x)
    wanted = functional.couple(x, layer.frame_head(frame_means), layer.joint_head(joint_means))
    torch.testing.assert_close(layer(x), wanted)


def test_a_width_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="hidden: wanted none beside two heads of your own"):
        CSTA(8, 16, frame_head=nn.Conv1d(8, 1, 1), joint_head=nn.Conv1d(8, 1, 1))


def test_repr_says_everything() -> None:
    text = repr(CSTA(64, groups=2, gate="sigmoid", scale="sum", residual=True, backend="reference"))
    for part in (
        "64, groups=2, gate='sigmoid', scale='sum', residual=True, backend='reference'",
        "(frame_head): Head(64 -> 16 -> 2)",
        "(joint_head): Head(64 -> 16 -> 2)",
    ):
        assert part in text
    assert "backend" not in repr(CSTA(64))


def test_default_width() -> None:
    assert [CSTA(channels).hidden for channels in (3, 64, 256)] == [16, 16, 64]


def test_reset_parameters_restores_the_identity() -> None:
    layer, x = CSTA(8), torch.randn(2, 8, 5, 6)
    nn.init.normal_(layer.frame_head.w2)
    assert not torch.allclose(layer(x), x)
    layer.frame_head.reset_parameters()
    torch.testing.assert_close(layer(x), x)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"channels": 0}, "channels: wanted at least 1, got 0"),
        ({"channels": 8, "hidden": 0}, "hidden: wanted at least 1, got 0"),
        ({"channels": 8, "groups": 3}, "groups: wanted a divisor of the 8 channels, got 3"),
        ({"channels": 8, "groups": 0}, "groups: wanted at least 1, got 0"),
        ({"channels": 8, "gate": "relu"}, "gate: wanted 'softmax' or 'sigmoid', got 'relu'"),
        (
            {"channels": 8, "scale": "max"},
            "scale: wanted 'mean', 'sum' or a finite number, got 'max'",
        ),
    ],
)
def test_wrong_options(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CSTA(**options)


def test_public_names() -> None:
    assert set(csta_fast.__all__) == {
        "CSTA", "Attention", "HeadWeights", "__version__", "explain", "functional", "reference",
    }  # fmt: skip
