"""Calls for a GPU on a machine without one: fake tensors, the compiler's trace, and export.

That is how memory is estimated, large models are planned and programs are exported. No kernel runs.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import Any

import emulation
import pytest
import torch
from backends import ALL_DTYPES, Backend
from cases import named
from contract import assert_like, check_form, run
from inputs import make
from subprocess_python import run_python
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend
from torch._subclasses.fake_tensor import FakeTensorMode

from csta_fast import CSTA, HeadWeights, backends, explain, functional
from csta_fast.backends import cuda as cuda_backend
from csta_fast.backends import portable
from csta_fast.backends import triton as triton_backend
from csta_fast.operators import registration
from csta_fast.operators.operators import Operators
from csta_fast.operators.signature import SIGNATURES

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


@pytest.mark.parametrize("how", ["compiled", "exported"])
def test_a_traced_program_holds_the_operators_of_every_device(
    how: str, name: str, fake: FakeTensorMode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unless a backend is named: what is traced for a GPU runs on a CPU, and the reverse."""
    monkeypatch.setattr("csta_fast.layer.Head.reset_parameters", lambda self: None)
    with torch.device("cuda"):
        layer = CSTA(8).requires_grad_(False)
    x, called = torch.zeros(3, 8, 12, 25, device="cuda"), set()

    def gather(graph: torch.fx.GraphModule, _: Any = None) -> torch.fx.GraphModule:
        called.update(str(each.target) for each in graph.graph.nodes if each.op == "call_function")
        return graph

    if how == "exported":
        gather(torch.export.export(layer, (x,)).graph_module)
    else:
        torch.compile(layer, fullgraph=True, backend=gather)(x)
    assert "csta_fast.csta.default" in called


@pytest.mark.parametrize("name", SIGNATURES)
def test_every_operator_has_kernels_for_both_devices(name: str) -> None:
    for key in ("CPU", "CUDA"):
        assert torch._C._dispatch_has_kernel_for_dispatch_key(f"csta_fast::{name}", key)


@lru_cache(maxsize=1)
def _on_a_cpu() -> backends.Backend:
    """The operators of every device, as they are on a GPU, under the CPU's key."""
    own = Operators("csta_fast_as_on_gpu")
    library = registration.register(own)
    assert library is not None
    for each in SIGNATURES:
        library.impl(each, portable.on_gpu(each), "CPU")
    return backends._fused("as-on-gpu", own.namespace, "", lambda x: None, None)


class _Counted(Operators):
    """Operators that count their calls."""

    calls = 0

    def native(self, name: str, *args: Any) -> Any:
        self.calls += 1
        return super().native(name, *args)


@pytest.mark.parametrize("case", ["odd", "last_odd", "couple_masks_all", "pool_last_odd"])
@pytest.mark.parametrize("serving", [0, 1, None], ids=["first", "second", "plain"])
def test_the_first_kernels_that_do_not_refuse_serve_a_gpu(
    serving: int | None, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And plain PyTorch where all refuse: y, attention and gradients, in their memory layouts."""
    emulation.install()
    monkeypatch.setitem(backends.BACKENDS, "as-on-gpu", _on_a_cpu())
    kernels = [_Counted("csta_fast_emulated"), _Counted("csta_fast_emulated")]
    reasons = ["no" if serving is None or at < serving else None for at in range(2)]
    candidates = [(lambda x, reason=reason: reason) for reason in reasons]
    monkeypatch.setattr(portable, "_ON_GPU", tuple(zip(candidates, kernels, strict=True)))
    inputs = make(named(case), torch.float32)
    results, gradients = run(inputs, "as-on-gpu")
    assert_like(results, run(inputs, "reference")[0])
    assert_like(gradients, run(inputs, "reference")[1])
    check_form(inputs, results, gradients, Backend("as-on-gpu", "cpu"))
    assert [each.calls for each in kernels] == [2 * (serving == at) for at in range(2)]


def test_order_of_the_kernels_for_a_gpu() -> None:
    assert [each.namespace for _, each in portable._ON_GPU] == list(NAMESPACES.values())


_WITHOUT_LIBRARY = """
import pathlib, sys, torch
exists = pathlib.Path.exists
pathlib.Path.exists = lambda path: path.name != "_cpu.abi3.so" and exists(path)
import csta_fast
assert csta_fast.backends.cpu.unavailable is not None
program, x, wanted = torch.export.load(sys.argv[1]), *torch.load(sys.argv[2])
assert any("csta_fast.csta" in str(node.target) for node in program.graph.nodes)
layer = program.module()
x.requires_grad_()
y = layer(x)
gradients = torch.autograd.grad(y.square().sum(), [x, *layer.parameters()])
for ours, theirs in zip((y, *gradients), wanted, strict=True):
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    assert ours.stride() == theirs.stride()
try:
    torch.ops.csta_fast.pool(x, None, None, x)
except (TypeError, ValueError) as error:
    print(error)
"""


@pytest.mark.usefixtures("native")
@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_a_program_runs_where_the_native_library_is_not(
    layout: torch.memory_format, tmp_path: Path
) -> None:
    layer = CSTA(8, gate="sigmoid", residual=True)
    torch.nn.init.normal_(layer.frame_head.w2)
    x = torch.randn(3, 8, 12, 25).to(memory_format=layout).requires_grad_()
    torch.export.save(torch.export.export(layer, (x,)), tmp_path / "layer.pt2")
    y = layer(x)
    parameters = list(layer.parameters())
    gradients = torch.autograd.grad(y.square().sum(), [x, *parameters])
    torch.save((x.detach(), (y.detach(), *gradients)), tmp_path / "wanted.pt")
    files = [str(tmp_path / name) for name in ("layer.pt2", "wanted.pt")]
    code = f"import sys; sys.argv[1:] = {files!r}\n{_WITHOUT_LIBRARY}"
    done = run_python(code, TRITON_INTERPRET="0", PYTHONWARNINGS="ignore")
    assert done.stdout.startswith("joint_mask: wanted"), done.stderr
