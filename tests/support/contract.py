"""What every backend owes for every case and dtype, as one function."""

from __future__ import annotations

from functools import lru_cache

import torch
from accuracy import assert_accurate
from backends import Backend
from cases import Case
from inputs import Inputs, make
from oracle import Oracle
from torch import Tensor
from uncertain import Uncertain

from csta_fast.backends import triton as triton_backend
from csta_fast.types import COMPUTE_DTYPES

Tensors = dict[str, Tensor]
Exact = dict[str, Uncertain]


def run(inputs: Inputs, backend: str) -> tuple[Tensors, Tensors]:
    """Results and gradients of a case on a backend."""
    results = inputs.call(backend)
    return results, inputs.gradients(results)


@lru_cache(maxsize=8)
def expected(case: Case, dtype: torch.dtype) -> tuple[Tensors, Tensors, Exact, Exact]:
    """Plain PyTorch's results and gradients in this dtype, and the exact ones."""
    inputs = make(case, dtype)
    results, gradients = run(inputs, "reference")
    oracle = Oracle(inputs)
    return results, gradients, oracle.results(), oracle.gradients()


def check(case: Case, dtype: torch.dtype, backend: Backend) -> None:
    """Values, gradients, dtypes, strides and memory of one case."""
    inputs = make(case, dtype, backend.device)
    before = [(all_bytes(tensor).clone(), tensor._version) for tensor in _given(inputs)]
    results, gradients = run(inputs, backend.name)
    assert triton_backend.unavailable is None, "plain PyTorch has stood in for a kernel"
    check_values(inputs, results, gradients, backend.name)
    check_form(inputs, results, gradients, backend)
    for tensor, (content, version) in zip(_given(inputs), before, strict=True):
        assert torch.equal(all_bytes(tensor), content), "an input was written to"
        assert tensor._version == version
    check_not_shared(inputs, {**results, **gradients}, backend.name)


def _given(inputs: Inputs) -> list[Tensor]:
    masks = [mask for mask in inputs.masks.values() if mask is not None]
    return [*inputs.tensors.values(), *inputs.upstream, *masks]


def all_bytes(tensor: Tensor) -> Tensor:
    """Everything in the memory behind a tensor, between its elements too."""
    storage = tensor.detach().untyped_storage()
    nothing = torch.empty(0, dtype=torch.uint8, device=tensor.device)
    return nothing.set_(storage)  # type: ignore[call-overload]


def check_not_shared(inputs: Inputs, computed: Tensors, backend: str) -> None:
    """No result lies in the memory of an input, except plain PyTorch's."""
    given = {tensor.untyped_storage().data_ptr() for tensor in _given(inputs) if tensor.numel()}
    for name, tensor in computed.items():
        shared = tensor.numel() and tensor.untyped_storage().data_ptr() in given
        assert not shared or backend == "reference", f"{name} shares an input's memory"


def check_values(inputs: Inputs, results: Tensors, gradients: Tensors, backend: str) -> None:
    plain, plain_gradients, exact, exact_gradients = expected(
        inputs.case, inputs.tensors["x"].dtype
    )
    for ours, theirs, right in (
        (results, plain, exact),
        (gradients, plain_gradients, exact_gradients),
    ):
        for name, tensor in ours.items():
            assert_accurate(name, tensor, None if backend == "reference" else theirs[name],
                            right[name])  # fmt: skip


def check_form(inputs: Inputs, results: Tensors, gradients: Tensors, backend: Backend) -> None:
    """The dtype, the device and the strides of every result."""
    x = inputs.tensors["x"]
    attention = x.dtype if inputs.case.op == "pool" else COMPUTE_DTYPES[x.dtype]
    for name, result in results.items():
        wanted = x.dtype if name == "y" else attention
        assert (result.dtype, result.device) == (wanted, x.device), name
    for name, gradient in gradients.items():
        given = inputs.tensors[name]
        assert (gradient.dtype, gradient.device) == (given.dtype, given.device), name
    if not backend.keeps_layout:
        return
    strides = strides_of_result(x)
    for name, result in results.items():
        wanted_strides = strides if name == "y" else torch.empty(result.shape).stride()
        assert result.stride() == wanted_strides, f"{name}: strides {result.stride()}"
    assert gradients["x"].stride() == strides, f"gradient of x: {gradients['x'].stride()}"


def strides_of_result(x: Tensor) -> tuple[int, ...]:
    """Channels-last for a channels-last x that is not contiguous too, else contiguous."""
    last = not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last)
    layout = torch.channels_last if last else torch.contiguous_format
    return torch.empty(x.shape, memory_format=layout).stride()


def assert_like(ours: Tensors, theirs: Tensors, units: float = 256) -> None:
    """Equal up to some units in the last place of the largest number around; NaN where NaN."""
    finite = [each.detach()[each.isfinite()] for each in theirs.values()]
    largest = max((float(each.abs().max()) for each in finite if each.numel()), default=0.0)
    for name, tensor in ours.items():
        eps = torch.finfo(tensor.dtype).eps
        torch.testing.assert_close(
            tensor,
            theirs[name],
            rtol=units * eps,
            atol=units * eps * largest,
            equal_nan=True,
            msg=lambda text, name=name: f"{name}: {text}",
        )
