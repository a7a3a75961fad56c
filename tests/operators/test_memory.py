"""Memory: no output is left unwritten, little is kept for backward.

That no input is written to is looked at in every call of the contract.
"""

from __future__ import annotations

import pytest
import torch
from subprocess_python import run_python
from torch import Tensor

from csta_fast import CSTA


def _complement(byte: int) -> str:
    """What MALLOC_PERTURB_ must be for glibc to fill fresh memory with a byte."""
    return str(byte ^ 255)


@pytest.mark.usefixtures("native")
@pytest.mark.parametrize(
    ("instruction_set", "poison"), [("portable", 0x7F), ("avx2", 0xAA), ("avx512", 0xFE)]
)
def test_contract_in_poisoned_memory(instruction_set: str, poison: int) -> None:
    process = run_python(
        "import selfcheck; selfcheck.main()",
        CSTA_FAST_ISA=instruction_set,
        MALLOC_PERTURB_=_complement(poison),
        OMP_WAIT_POLICY="PASSIVE",
        OPENBLAS_NUM_THREADS="1",
    )
    assert process.stdout.endswith("all right\n"), process.stderr[-3000:]


@pytest.mark.usefixtures("native")
def test_poison_reaches_fresh_tensors() -> None:
    code = "import torch; print(torch.empty(1000).view(torch.uint8).unique().tolist())"
    assert run_python(code, MALLOC_PERTURB_=_complement(0xAA)).stdout.strip() == "[170]"


def _kept_bytes(layer: CSTA, x: Tensor, **masks: Tensor) -> int:
    """Bytes kept for backward beyond x and the parameters."""
    known = {each.untyped_storage().data_ptr() for each in (x, *layer.parameters())}
    kept: dict[int, int] = {}

    def remember(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(remember, lambda tensor: tensor):
        y = layer(x, **masks)
    assert y.requires_grad
    return sum(kept.values())


@pytest.mark.usefixtures("native")
@pytest.mark.parametrize(
    "shape", [(8, 64, 64, 25), (8, 64, 300, 25), (4, 128, 32, 25), (4, 256, 16, 25)]
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
def test_little_is_kept_for_backward(
    shape: tuple[int, ...], dtype: torch.dtype, layout: torch.memory_format
) -> None:
    x = torch.randn(shape).to(dtype).contiguous(memory_format=layout).requires_grad_()
    lengths = torch.full(shape[:1], shape[2])
    kept = _kept_bytes(CSTA(shape[1], backend="cpu"), x, lengths=lengths)
    assert 0 < kept <= 0.005 * x.numel() * 4
    if shape[1] < 256:
        plain = _kept_bytes(CSTA(shape[1], backend="reference"), x, lengths=lengths)
        assert plain > 10 * kept


@pytest.mark.usefixtures("native")
def test_nothing_is_kept_without_gradients() -> None:
    layer = CSTA(8, backend="cpu").requires_grad_(False)
    kept = []

    def remember(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(remember, lambda tensor: tensor):
        layer(torch.randn(2, 8, 5, 6))
    assert not kept
