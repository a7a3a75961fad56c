"""HCN as published, and CSTA-CNN around it."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from csta_fast import CSTA
from csta_fast.models import CSTACNN, HCN, official_names
from csta_fast.models.hcn import differences

_PUBLISHED = 1_047_036


class _Published(nn.Module):
    """HCN written out layer after layer, under the published names."""

    def __init__(self) -> None:
        super().__init__()

        def stream() -> nn.Sequential:
            return nn.Sequential(
                nn.Conv2d(3, 64, 1),
                nn.ReLU(),
                nn.Conv2d(64, 32, (3, 1), padding=(1, 0)),
                nn.Identity(),
                nn.Conv2d(25, 32, 3, padding=1),
                nn.MaxPool2d(2),
                nn.Conv2d(32, 64, 3, padding=1),
                nn.MaxPool2d(2),
            )

        parts = nn.ModuleDict({"net_l": stream(), "net_m": stream()})
        parts["conv5"] = nn.Sequential(nn.Conv2d(128, 128, 3, padding=1))
        parts["conv6"] = nn.Sequential(nn.Conv2d(128, 256, 3, padding=1))
        parts["fc7"] = nn.Sequential(nn.Linear(2048, 256))
        self.backbone = parts
        self.cls_head = nn.ModuleDict({"fc": nn.Linear(256, 60)})

    def forward(self, x: Tensor) -> Tensor:
        people = []
        for person in x.unbind(-1):
            motion = torch.zeros_like(person)
            motion[:, :, 1:] = person[:, :, 1:] - person[:, :, :-1]
            both = []
            for name, values in (("net_l", person), ("net_m", motion)):
                stream = self.backbone[name]
                both.append(stream[4:](stream[:4](values).permute(0, 3, 2, 1)))
            features = F.relu(F.max_pool2d(self.backbone["conv5"](torch.cat(both, 1)), 2))
            people.append(F.relu(F.max_pool2d(self.backbone["conv6"](features), 2)).flatten(1))
        together = torch.stack(people).amax(0)
        return self.cls_head["fc"](F.relu(self.backbone["fc7"](together)))


def _clips(samples: int = 3, frames: int = 32, joints: int = 20, persons: int = 2) -> Tensor:
    return torch.randn(samples, 3, frames, joints, persons)


def _loud(network: HCN) -> HCN:
    """Every layer with weights and biases that tell, which a fresh one has not."""
    for parameter in network.parameters():
        if parameter.requires_grad:
            nn.init.normal_(parameter, std=0.2)
    return network.eval()


def test_the_number_of_parameters_is_the_published_one() -> None:
    assert sum(parameter.numel() for parameter in HCN(60).parameters()) == _PUBLISHED


def test_a_published_checkpoint_computes_what_it_did() -> None:
    published = _Published()
    network = HCN(60)
    network.load_state_dict(official_names(published.state_dict()))
    x = _clips(2, 64, 25)
    expected = published(x)
    torch.testing.assert_close(network.eval()(x), expected, rtol=1e-4, atol=1e-5)
    assert expected.std() > 1e-3
    with pytest.raises(AssertionError):
        torch.testing.assert_close(network(x.flip(2)), expected, rtol=1e-4, atol=1e-5)


def test_another_checkpoint_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"got 'backbone.net_l.1.running_mean'"):
        official_names({"backbone.net_l.1.running_mean": torch.zeros(1)})


@pytest.mark.parametrize("place", ["input", "conv1", "conv2"])
@pytest.mark.parametrize("streams", ["both", "position", "motion"])
def test_a_fresh_csta_cnn_computes_what_hcn_does(place: str, streams: str) -> None:
    torch.manual_seed(3)
    network = CSTACNN(7, 20, 32, place=place, streams=streams)
    plain = HCN(7, 20, 32)
    missing, unexpected = plain.load_state_dict(network.state_dict(), strict=False)
    assert not missing
    assert unexpected
    assert all(".attention." in name for name in unexpected)
    x = _clips()
    torch.testing.assert_close(network.eval()(x), plain.eval()(x), rtol=1e-4, atol=1e-6)


def test_a_fresh_csta_cnn_starts_where_hcn_does() -> None:
    """The same seed gives all variants the same weights, so that they are compared fairly."""
    states = []
    for axes in ("none", "both", "joints", "frames"):
        torch.manual_seed(11)
        states.append(CSTACNN(7, 20, 32, axes=axes).state_dict())
    for state, name in itertools.product(states[1:], states[0]):
        assert torch.equal(state[name], states[0][name]), name


@pytest.mark.parametrize("gate", ["softmax", "sigmoid"])
@pytest.mark.parametrize("axes", ["both", "joints", "frames"])
def test_only_the_axes_asked_for_have_weights(axes: str, gate: str) -> None:
    network = _loud(CSTACNN(7, 20, 32, axes=axes, gate=gate))
    scores, attention = network(_clips(), return_attention=True)
    scores.square().sum().backward()
    assert set(attention) == {"position", "motion"}
    for name, found in attention.items():
        for axis, weights, length in (("frames", found.frames, 32), ("joints", found.joints, 20)):
            assert weights.shape == (3, 2, 1, length)
            uniform = torch.full_like(weights, 1 / length if gate == "softmax" else 1.0)
            attends = axes in ("both", axis)
            if attends:
                assert (weights / uniform - 1).abs().max() > 0.02
            else:
                torch.testing.assert_close(weights, uniform)
            head = getattr(getattr(network, name).attention, f"{axis[:-1]}_head")
            assert (head.w1.grad is not None) == attends


def test_without_axes_it_is_hcn() -> None:
    network = CSTACNN(7, 20, 32, axes="none")
    assert not any(isinstance(module, CSTA) for module in network.modules())
    scores, attention = network(_clips(), return_attention=True)
    assert scores.shape == (3, 7)
    assert attention == {}


@pytest.mark.parametrize("axes", ["both", "none"])
def test_persons_who_are_not_there_take_no_part(axes: str) -> None:
    network = _loud(CSTACNN(7, 20, 32, axes=axes))
    x = _clips()
    persons = torch.tensor([1, 2, 1])
    scores = network(x, persons=persons)
    torch.testing.assert_close(scores[0], network(x[:1, ..., :1])[0], rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(scores[1], network(x[1:2])[0], rtol=1e-4, atol=1e-3)
    x[0, ..., 1] = torch.nan
    torch.testing.assert_close(network(x, persons=persons), scores, rtol=1e-4, atol=1e-3)
    x[0, ..., 1] = 1.0
    assert (network(x) - scores)[0].abs().max() > 0.1


def test_attention_of_persons_who_are_not_there_is_zero() -> None:
    network = _loud(CSTACNN(7, 20, 32))
    _, attention = network(_clips(), persons=torch.tensor([1, 2, 0]), return_attention=True)
    for found in attention["position"]:
        torch.testing.assert_close(
            found.sum(-1).squeeze(-1), torch.tensor([[1.0, 0], [1, 1], [1, 0]])
        )


def test_padded_frames_neither_move_nor_are_attended_to() -> None:
    network = _loud(CSTACNN(7, 20, 32))
    x = _clips()
    lengths = torch.tensor([32, 20, 5])
    _, attention = network(x, lengths=lengths, return_attention=True)
    for row, length in enumerate(lengths):
        frames = attention["motion"].frames[row]
        assert (frames[..., length:] == 0).all()
        torch.testing.assert_close(frames[..., :length].sum(-1), torch.ones(2, 1))
    motion = differences(x[..., 0], lengths)
    torch.testing.assert_close(motion[0, :, 1:], x[0, :, 1:, :, 0] - x[0, :, :-1, :, 0])
    assert (motion[:, :, 0] == 0).all()
    assert (motion[1, :, 20:] == 0).all()
    assert (motion[1, :, 19] != 0).all()


def test_every_parameter_learns() -> None:
    network = CSTACNN(7, 20, 32, dropout=0.0)
    network(_clips()).square().sum().backward()
    unused = [name for name, each in network.named_parameters() if each.grad is None]
    assert unused == []


def test_training_curves_of_fused_and_reference_attention_agree() -> None:
    def losses(backend: str | None) -> list[float]:
        torch.manual_seed(5)
        network = CSTACNN(4, 20, 32, dropout=0.0, backend=backend)
        optimiser = torch.optim.Adam(network.parameters(), 1e-3)
        x, labels = _clips(8), torch.arange(8) % 4
        found = []
        for _ in range(8):
            loss = F.cross_entropy(network(x), labels)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            found.append(loss.item())
        return found

    assert losses(None) == pytest.approx(losses("reference"), rel=1e-4)
    assert losses(None) == losses(None)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"place": "conv3"}, "place: wanted one of input, conv1, conv2, got 'conv3'"),
        ({"axes": "all"}, "axes: wanted one of both, joints, frames, none, got 'all'"),
        ({"streams": "none"}, "streams: wanted one of both, position, motion, got 'none'"),
        ({"frames": 15}, "frames: wanted at least 16, got 15"),
        ({"classes": 0}, "classes: wanted at least 1, got 0"),
        ({"groups": 5}, "groups: wanted a divisor of the 64 channels, got 5"),
    ],
)
def test_arguments_that_make_no_network(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CSTACNN(**{"classes": 7} | arguments)


def test_clips_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match=r"x: wanted \(N, 3, 32, 20, M\), got shape"):
        HCN(7, 20, 32)(_clips(frames=64))


@pytest.mark.parametrize("network", [HCN, CSTACNN])
@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"persons": [1, 2]}, TypeError, "persons: wanted a tensor, got list"),
        ({"persons": torch.ones(2, 3).long()}, ValueError, r"persons: wanted shape \(N,\) = "),
        ({"lengths": torch.tensor([5])}, ValueError, r"lengths: wanted shape \(N,\) = .*\(1,\)"),
        ({"x": torch.zeros(2, 3, 32, 20, 1).long()}, TypeError, "x: wanted a floating-point"),
        (
            {"x": torch.zeros(2, 3, 32, 20, 0)},
            ValueError,
            r"20, M\), got shape \(2, 3, 32, 20, 0\)",
        ),
    ],
)
def test_wrong_arguments_of_a_network_are_named(
    network: type[HCN], given: dict, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        network(7, 20, 32)(**{"x": _clips(joints=20, frames=32), **given})
