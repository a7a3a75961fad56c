"""When the Triton backend serves and refuses, and what follows a kernel that does not compile."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from backends import BACKENDS
from cases import Case, named
from contract import assert_like, run
from inputs import make
from subprocess_python import run_python

from csta_fast import CSTA, explain, functional
from csta_fast.backends import cuda as cuda_backend
from csta_fast.backends import triton as triton_backend

DEVICE = next(backend.device for backend in BACKENDS if backend.name == "triton")

needs_triton = pytest.mark.skipif(
    triton_backend.unavailable is not None, reason=str(triton_backend.unavailable)
)

_QUICK_CHECKS = ("test_schema", "test_autograd_registration", "test_faketensor")


def _line(text: str) -> str:
    return next(line for line in text.splitlines() if "triton" in line)


def test_importing_the_package_imports_no_kernel() -> None:
    code = "import sys, csta_fast; print([m for m in sys.modules if m.startswith('csta_fast.k')])"
    loaded = run_python(code, TRITON_INTERPRET="0").stdout
    assert loaded.strip() == "['csta_fast.kernels', 'csta_fast.kernels.plans']"


def test_importing_the_package_imports_no_compiler() -> None:
    code = "import sys, csta_fast; print('torch._dynamo' in sys.modules)"
    assert run_python(code).stdout.strip() == "False"


def test_constants_are_marked_as_pytorch_marks_them() -> None:
    marked = cuda_backend.constant_to_the_compiler(lambda: None)
    assert vars(marked) == vars(torch.compiler.assume_constant_result(lambda: None)) != {}
    assert vars(cuda_backend.capability_refusal) == vars(cuda_backend._runtime_refusal)
    assert vars(marked) == vars(cuda_backend.capability_refusal)


def test_without_triton_the_next_backend_serves() -> None:
    code = """
import importlib.util
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name == "triton" else find(name, *rest)
import csta_fast, torch
x = torch.randn(2, 4, 3, 5)
print(csta_fast.explain(x))
csta_fast.CSTA(4)(x).sum().backward()
"""
    done = run_python(code)
    assert "Triton is not installed" in _line(done.stdout), done.stderr


def test_a_cpu_tensor_is_refused_without_the_interpreter() -> None:
    code = "import csta_fast, torch; print(csta_fast.explain(torch.zeros(2, 4, 3, 5)))"
    refused = _line(run_python(code, TRITON_INTERPRET="0").stdout)
    assert "serves GPU tensors, x is on cpu" in refused or "not installed" in refused


@needs_triton
@pytest.mark.parametrize("capability", [(7, 5), (9, 0)], ids=str)
def test_only_an_old_gpu_is_refused(
    capability: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the CUDA library as well, which Triton does not need."""
    monkeypatch.setattr(triton_backend, "INTERPRETED", False)
    monkeypatch.setattr(cuda_backend, "LIBRARY", Path("absent.so"))
    monkeypatch.setattr(torch.version, "hip", None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    cuda_backend._ask_capability.cache_clear()
    reason = triton_backend._device_refusal(torch.device("cuda", 7))
    cuda_backend._ask_capability.cache_clear()
    old = "wants a GPU of compute capability 8.0, cuda:7 has 7.5"
    assert reason == (old if capability < (8, 0) else None)


@needs_triton
def test_too_many_joints_are_refused() -> None:
    x = torch.zeros(1, 1, 1, 5000, device=DEVICE)
    assert "takes up to 4096 joints, x has 5000" in _line(explain(x))
    with pytest.raises(ValueError, match="backend 'triton' cannot serve this call: takes up to"):
        functional.pool(x, backend="triton")
    assert functional.pool(x)[1].shape == (1, 1, 5000)
    long = torch.zeros(1, 1, 1, device=DEVICE).expand(1, 1, 2**24).unsqueeze(3).expand(1, 1, -1, 3)
    assert "takes planes of up to 33554432 positions" in _line(explain(long))


@needs_triton
@pytest.mark.parametrize("name", ["odd", "masks_all", "last_odd", "couple_two_groups", "pool_odd"])
def test_a_kernel_that_does_not_compile(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The call is computed by plain PyTorch, with a warning, and the next ones go elsewhere."""
    from csta_fast.kernels import operations
    from triton.errors import TritonError

    def broken(*_: Any) -> Any:
        raise TritonError("no such instruction\nand more of it")

    inputs = make(named(name), torch.float32, DEVICE)
    wanted = run(inputs, "reference")
    results = inputs.call("triton")
    for operation in ("csta", "couple", "pool"):
        monkeypatch.setattr(operations, operation, broken)
        monkeypatch.setattr(operations, f"{operation}_backward", broken)
    monkeypatch.setattr(triton_backend, "unavailable", None)
    with pytest.warns(UserWarning, match="backend 'triton' does not serve any more"):
        gradients = inputs.gradients(results)
    assert_like(results, wanted[0])
    assert_like(gradients, wanted[1])
    monkeypatch.setattr(triton_backend, "unavailable", None)
    with pytest.warns(UserWarning, match="TritonError: no such instruction"):
        results = inputs.call("triton")
    assert_like(results, wanted[0])
    assert "could not be compiled here (TritonError: no such instruction)" in _line(
        explain(inputs.tensors["x"])
    )
    with pytest.raises(ValueError, match="cannot serve this call: its kernels could not"):
        inputs.call("triton")


@needs_triton
def test_another_error_is_not_taken_for_a_failed_compilation(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from csta_fast.kernels import operations

    def broken(*_: Any) -> Any:
        raise torch.OutOfMemoryError("nothing left")

    monkeypatch.setattr(operations, "pool", broken)
    with pytest.raises(torch.OutOfMemoryError):
        functional.pool(torch.zeros(2, 4, 3, 5, device=DEVICE), backend="triton")
    assert triton_backend.unavailable is None


@needs_triton
@pytest.mark.parametrize("name", ["odd", "last_odd", "couple_masks_all", "pool_odd"])
def test_opcheck(name: str) -> None:
    inputs = make(named(name), torch.float32, DEVICE)
    case: Case = inputs.case
    x, *others = (tensor.detach().nan_to_num() for tensor in inputs.tensors.values())
    masks = tuple(inputs.masks.values())
    choices = () if case.op == "pool" else (0, None, case.residual)
    operation = getattr(torch.ops.csta_fast_triton, case.op).default
    arguments = (x.requires_grad_(), *others, *masks, *choices)
    torch.library.opcheck(operation, arguments, test_utils=_QUICK_CHECKS)


@needs_triton
def test_the_operation_itself_refuses_wrong_arguments() -> None:
    x = torch.zeros(2, 4, 3, 5, device=DEVICE)
    with pytest.raises(ValueError, match="frame_logits: wanted shape"):
        torch.ops.csta_fast_triton.couple(
            x, x.new_zeros(2, 1, 9), x.new_zeros(2, 1, 5), None, None, None, 0, None, False
        )


@needs_triton
@pytest.mark.parametrize("kind", ["plain", "masked"])
def test_compiled_without_a_graph_break(kind: str) -> None:
    layer = CSTA(4, 5, backend="triton").to(DEVICE)
    torch.nn.init.normal_(layer.frame_head.w2)
    x = torch.randn(3, 4, 6, 5, device=DEVICE, requires_grad=True)
    options = {"lengths": torch.tensor([6, 2, 0], device=DEVICE)} if kind == "masked" else {}
    compiled = torch.compile(layer, fullgraph=True, dynamic=True, backend="aot_eager")
    results = []
    for call in (layer, compiled):
        y = call(x, **options)
        results.append((y, *torch.autograd.grad(y.square().sum(), (x, layer.frame_head.w1))))
    for ours, theirs in zip(*results, strict=True):
        assert torch.equal(ours, theirs)
