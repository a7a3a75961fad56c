"""Calls for a GPU on a machine without one: fake tensors, the compiler's trace, and export.

That is how memory is estimated, large models are planned and programs are exported. No kernel runs.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from itertools import product

import pytest
import torch
from backends import ALL_DTYPES
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend
from torch._subclasses.fake_tensor import FakeTensorMode

from csta_fast import CSTA, HeadWeights, explain, functional
from csta_fast.backends import cuda as cuda_backend
from csta_fast.backends import triton as triton_backend
from csta_fast.operators import registration
from csta_fast.operators.operators import Operators

#: PyTorch's autograd asks the driver about the device, of fake tensors as well, and aborts without.
GRADIENTS = torch.cuda.is_available()
NAMESPACES = {"cuda": cuda_backend.NAMESPACE, "triton": triton_backend.NAMESPACE}
LAYOUTS = (torch.contiguous_format, torch.channels_last)


@lru_cache(maxsize=1)
def _define_operations() -> None:
    registration.register(Operators(cuda_backend.NAMESPACE))


@pytest.fixture(params=["cuda", "triton"])
def name(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a backend for GPUs; where the CUDA library is not loaded, of its definitions."""
    if request.param == "triton" and triton_backend.unavailable is not None:
        pytest.skip(triton_backend.unavailable)
    if request.param == "cuda" and cuda_backend.unavailable is not None:
        _define_operations()
        monkeypatch.setattr(cuda_backend, "unavailable", None)
    return request.param


@pytest.fixture
def fake() -> Iterator[FakeTensorMode]:
    torch._dynamo.reset()
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        yield mode
    torch._dynamo.reset()


@pytest.fixture
def layer(name: str, fake: FakeTensorMode, monkeypatch: pytest.MonkeyPatch) -> CSTA:
    """A layer of fake weights, without their initial values: those want a PyTorch with CUDA."""
    monkeypatch.setattr("csta_fast.layer.Head.reset_parameters", lambda self: None)
    with torch.device("cuda"):
        return CSTA(8, backend=name).requires_grad_(GRADIENTS)


def _head(dtype: torch.dtype) -> HeadWeights:
    shapes = ((16, 8), (16,), (2, 16), (2,))
    return HeadWeights(*(torch.zeros(each, dtype=dtype, device="cuda") for each in shapes))


def _features(layout: torch.memory_format, dtype: torch.dtype = torch.float32) -> Tensor:
    x = torch.empty(3, 8, 12, 25, dtype=dtype, device="cuda", memory_format=layout)
    return x.requires_grad_(GRADIENTS)


def _has_form_of(result: Tensor, x: Tensor) -> bool:
    return (result.shape, result.stride(), result.dtype, result.device) == (
        x.shape, x.stride(), x.dtype, x.device
    )  # fmt: skip


def _has_gradient_like(result: Tensor, x: Tensor) -> bool:
    return not GRADIENTS or _has_form_of(torch.autograd.grad(result.sum(), x)[0], x)


@pytest.mark.parametrize(("layout", "dtype"), [*product(LAYOUTS, ALL_DTYPES)], ids=str)
def test_fake_tensors(
    layout: torch.memory_format, dtype: torch.dtype, name: str, fake: FakeTensorMode
) -> None:
    x, arithmetic = _features(layout, dtype), torch.promote_types(dtype, torch.float32)
    head, lengths = _head(arithmetic), torch.zeros(3, dtype=torch.int64, device="cuda")
    y, attention = functional.csta(
        x, head, head, lengths=lengths, return_attention=True, backend=name
    )
    assert _has_form_of(y, x)
    assert attention.frames.shape == (3, 2, 12)
    assert attention.joints.shape == (3, 2, 25)
    assert {each.dtype for each in attention} == {arithmetic}
    assert _has_gradient_like(y, x)

    frame_means, joint_means = functional.pool(x, backend=name)
    assert (frame_means.shape, joint_means.shape) == ((3, 8, 12), (3, 8, 25))
    assert frame_means.dtype == joint_means.dtype == dtype
    assert _has_gradient_like(frame_means, x)

    y = functional.couple(x, *(each.detach() for each in attention), backend=name)
    assert _has_form_of(y, x)
    assert _has_gradient_like(y, x)


def test_a_fused_backend_would_serve(name: str, fake: FakeTensorMode) -> None:
    x = _features(torch.contiguous_format)
    assert f"-> {name}" in explain(x, backend=name)
    assert "-> reference" not in explain(x)


@pytest.mark.parametrize(("layout", "dtype"), [*product(LAYOUTS, ALL_DTYPES)], ids=str)
def test_fake_gradients(
    layout: torch.memory_format, dtype: torch.dtype, name: str, fake: FakeTensorMode
) -> None:
    """Of the operations themselves, which need no autograd."""
    x, arithmetic = _features(layout, dtype).detach(), torch.promote_types(dtype, torch.float32)
    weights = (*_head(arithmetic), *_head(arithmetic))
    frames = torch.zeros(3, 2, 12, dtype=arithmetic, device="cuda")
    joints = torch.zeros(3, 2, 25, dtype=arithmetic, device="cuda")
    operations = getattr(torch.ops, NAMESPACES[name])
    upstream, options = (x, None, None), (None, None, None, 0, None, False, True)

    found = operations.csta_backward(*upstream, x, *weights, frames, joints, *options)
    assert all(map(_has_form_of, found, (x, *weights)))
    assert len(found) == 9

    found = operations.couple_backward(*upstream, x, frames, joints, frames, joints, *options)
    assert all(map(_has_form_of, found, (x, frames, joints)))

    means, last = (x.mean(3), x.mean(2)), layout == torch.channels_last
    assert _has_form_of(operations.pool_backward(*means, None, None, None, last), x)


@pytest.mark.filterwarnings("error:Dynamo detected a call")
@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_traced_once_for_all_lengths(layout: torch.memory_format, layer: CSTA) -> None:
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(layer, fullgraph=True, dynamic=True, backend=counter)
    for samples, frames in ((3, 12), (5, 40), (2, 7)):
        x = torch.empty(samples, 8, frames, 25, device="cuda", memory_format=layout)
        x.requires_grad_(GRADIENTS)
        y = compiled(x)
        assert _has_form_of(y, x)
        assert _has_gradient_like(y, x)
    assert counter.frame_count == 1


def test_export_with_dynamic_batch_and_frames(name: str, layer: CSTA) -> None:
    """A backend's largest size does not confine them."""
    dynamic = {"x": {0: torch.export.Dim("samples"), 2: torch.export.Dim("frames")}}
    x = torch.zeros(3, 8, 12, 25, device="cuda")
    program = torch.export.export(layer, (x,), dynamic_shapes=dynamic)
    called = {str(node.target) for node in program.graph.nodes if node.op == "call_function"}
    assert f"{NAMESPACES[name]}.csta.default" in called
