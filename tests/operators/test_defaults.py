"""PyTorch's default device and dtype: obeyed by modules that are made, and by nothing else."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from csta_fast import CSTA, functional
from csta_fast.data import ClipOptions, Clips, collate, generate
from csta_fast.models import CSTACNN


@pytest.fixture
def _elsewhere() -> Iterator[None]:
    """Other defaults: whatever obeys them is on a device without memory, and in float64."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with torch.device("meta"):
            yield
    finally:
        torch.set_default_dtype(before)


@pytest.mark.usefixtures("_elsewhere")
def test_clips_are_where_numpy_is() -> None:
    collection = generate()
    clips = Clips(collection.recordings[:2], collection.layout, ClipOptions(), persons=1)
    batch = collate([clips[0], clips[1]])
    assert {part.device.type for part in batch} == {"cpu"}
    assert [part.dtype for part in batch] == [torch.float32] + [torch.int64] * 4


def _call_everything(backend: str | None) -> None:
    x = torch.ones(2, 3, 16, 5, 2, device="cpu", dtype=torch.float32, requires_grad=True)
    network = CSTACNN(4, 5, 16, axes="joints", backend=backend, gate="sigmoid")
    network.to_empty(device="cpu").float().reset_parameters()
    lengths = torch.tensor([16, 3], device="cpu")
    persons = torch.tensor([2, 1], device="cpu")
    scores, attention = network(x, lengths=lengths, persons=persons, return_attention=True)
    (gradient,) = torch.autograd.grad(scores.square().sum(), x, create_graph=True)
    (twice,) = torch.autograd.grad(gradient.square().sum(), x)
    for result in (scores, gradient, twice, *attention["position"]):
        assert (result.device.type, result.dtype) == ("cpu", torch.float32)
    frame_means, joint_means = functional.pool(x[..., 0], lengths=lengths, backend=backend)
    assert frame_means.dtype is joint_means.dtype is torch.float32


@pytest.mark.usefixtures("_elsewhere", "native")
@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_calls_are_where_x_is(backend: str) -> None:
    _call_everything(backend)


@pytest.mark.usefixtures("_elsewhere")
def test_modules_are_made_by_the_defaults() -> None:
    for module in (CSTA(8), CSTACNN(4, 5, 16, axes="frames")):
        found = {(each.device.type, each.dtype) for each in module.state_dict().values()}
        assert found == {("meta", torch.float64)}


@pytest.mark.usefixtures("_elsewhere")
def test_a_network_for_training_is_where_its_clips_are() -> None:
    pytest.importorskip("lightning")
    from csta_fast.training.checkpoint import Facts, build
    from csta_fast.training.classifier import Classifier
    from csta_fast.training.options import Options

    options, facts = Options(), Facts.of(generate(), None)
    network = build(options, facts)
    assert {(each.device.type, each.dtype) for each in network.parameters()} == {
        ("cpu", torch.float32)
    }
    assert Classifier(options, facts).confusion.device.type == "cpu"
