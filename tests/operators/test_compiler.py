"""torch.compile without a graph break and without recompiling, and torch.export."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
import torch
from contract import Tensors, assert_like
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounterWithBackend

from csta_fast import CSTA

pytestmark = pytest.mark.usefixtures("native")

LAYERS = {
    "plain": lambda: CSTA(6),
    "options": lambda: CSTA(6, groups=2, gate="sigmoid", residual=True),
    "number": lambda: CSTA(6, scale=0.37),
    "own_heads": lambda: CSTA(6, frame_head=nn.Conv1d(6, 1, 3, padding=1)),
}


@pytest.fixture(autouse=True)
def _fresh_compiler() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def _layer(kind: str) -> nn.Module:
    layer = LAYERS[kind]()
    for parameter in layer.parameters():
        nn.init.normal_(parameter, std=0.5)
    return layer


def _step(call: nn.Module, x: Tensor, parameters: list[Tensor], **masks: Tensor) -> Tensors:
    y = call(x, **masks)
    gradients = torch.autograd.grad(y.square().sum(), [x, *parameters])
    return {"y": y, **{f"gradient {i}": each for i, each in enumerate(gradients)}}


def _features(samples: int, frames: int) -> Tensor:
    return torch.randn(samples, 6, frames, 25, requires_grad=True)


@pytest.mark.parametrize("kind", LAYERS)
def test_compiled_equals_eager(kind: str) -> None:
    layer = _layer(kind)
    parameters = list(layer.parameters())
    compiled = torch.compile(layer, fullgraph=True, dynamic=True)
    x, lengths = _features(3, 12), torch.tensor([12, 5, 0])
    for masks in ({}, {"lengths": lengths}):
        assert_like(_step(compiled, x, parameters, **masks), _step(layer, x, parameters, **masks))


@pytest.mark.parametrize("kind", ["plain", "own_heads"])
def test_no_recompilation_for_other_batches_and_lengths(kind: str) -> None:
    layer = _layer(kind)
    parameters = list(layer.parameters())
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(layer, fullgraph=True, dynamic=True, backend=counter)
    for i in range(10):
        x = _features(2 + i, 10 + 7 * i)
        assert_like(_step(compiled, x, parameters), _step(layer, x, parameters))
    assert counter.frame_count == 1


def test_compiled_model_of_several_layers() -> None:
    model = nn.Sequential(nn.Conv2d(3, 6, 1), _layer("plain"), nn.ReLU(), _layer("options"))
    compiled = torch.compile(model, fullgraph=True, dynamic=True)
    x = torch.randn(2, 3, 9, 17, requires_grad=True)
    parameters = list(model.parameters())
    assert_like(_step(compiled, x, parameters), _step(model, x, parameters))


def test_compiled_channels_last_stays_channels_last() -> None:
    layer = _layer("plain")
    compiled = torch.compile(layer, fullgraph=True, dynamic=True)
    x = _features(3, 12).detach().to(memory_format=torch.channels_last).requires_grad_()
    step = _step(compiled, x, list(layer.parameters()))
    assert step["y"].stride() == step["gradient 0"].stride() == x.stride()


@pytest.mark.parametrize("kind", LAYERS)
def test_export_with_dynamic_batch_and_frames(kind: str) -> None:
    layer = _layer(kind).eval()
    dynamic = {"x": {0: torch.export.Dim("samples"), 2: torch.export.Dim("frames")}}
    program = torch.export.export(layer, (_features(3, 12).detach(),), dynamic_shapes=dynamic)
    called = {str(node.target) for node in program.graph.nodes if node.op == "call_function"}
    native = {"csta_fast.csta.default"} if kind != "own_heads" else {
        "csta_fast.pool.default", "csta_fast.couple.default"}  # fmt: skip
    assert native <= called
    for shape in ((3, 12), (2, 40), (7, 5)):
        x = _features(*shape).detach()
        torch.testing.assert_close(program.module()(x), layer(x))


def test_export_with_as_many_samples_as_joints() -> None:
    """A mask of joints shared by all samples says nothing about how many samples there are."""
    layer, mask = _layer("plain").eval(), torch.arange(25) < 20
    dynamic = {"x": {0: torch.export.Dim("samples")}, "joint_mask": None}
    program = torch.export.export(
        layer, (_features(3, 12).detach(),), {"joint_mask": mask}, dynamic_shapes=dynamic
    )
    for samples in (3, 25):
        x = _features(samples, 12).detach()
        torch.testing.assert_close(program.module()(x, joint_mask=mask), layer(x, joint_mask=mask))


def test_exported_program_survives_a_file(tmp_path: Path) -> None:
    layer = _layer("plain").eval()
    x = _features(3, 12).detach()
    torch.export.save(torch.export.export(layer, (x,)), tmp_path / "layer.pt2")
    torch.testing.assert_close(torch.export.load(tmp_path / "layer.pt2").module()(x), layer(x))


def _eager_graph(graph: torch.fx.GraphModule) -> object:
    return torch.compile(graph, backend="eager", fullgraph=True, dynamic=True)


@contextmanager
def _enabled() -> Iterator[None]:
    with torch._dynamo.compiled_autograd._enable(_eager_graph):
        yield


@contextmanager
def _configured() -> Iterator[None]:
    with torch._dynamo.config.patch(compiled_autograd=True):
        yield


@pytest.mark.parametrize("compiled", [_enabled, _configured])
@pytest.mark.parametrize("kind", ["plain", "options", "own_heads"])
def test_compiled_autograd_of_an_eager_call(
    kind: str, compiled: Callable[[], AbstractContextManager[None]]
) -> None:
    layer = _layer(kind)
    x, lengths = _features(3, 12), torch.tensor([12, 5, 0])
    tensors = [x, *layer.parameters()]

    def backward(loss: Tensor) -> list[Tensor]:
        loss.backward()
        return [tensor.grad for tensor in tensors]

    wanted = torch.autograd.grad(layer(x, lengths=lengths).square().sum(), tensors)
    loss = layer(x, lengths=lengths).square().sum()
    with compiled():
        found = torch.compile(backward, backend="eager")(loss)
    names = [str(number) for number in range(len(tensors))]
    assert_like(dict(zip(names, found, strict=True)), dict(zip(names, wanted, strict=True)))
