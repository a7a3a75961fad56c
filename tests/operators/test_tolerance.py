"""The tolerance of the contract is itself tested: it must refuse every wrong result."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from accuracy import assert_accurate, deviation, last_place
from backends import ALL_DTYPES
from cases import CASES, named
from contract import expected
from torch import Tensor


def _rolled(axis: int) -> Callable[[Tensor], Tensor]:
    return lambda tensor: tensor.roll(1, axis)


def _one_element_unwritten(tensor: Tensor) -> Tensor:
    wrong = tensor.clone().flatten()
    wrong[wrong.abs().nan_to_num().argmax()] = 0
    return wrong.view(tensor.shape)


WRONG: dict[str, Callable[[Tensor], Tensor]] = {
    "zeros": torch.zeros_like,
    "scaled": lambda tensor: tensor * 1.01,
    "negated": torch.neg,
    "reversed": lambda tensor: tensor.flip(tuple(range(tensor.dim()))),
    "rolled": _rolled(-1),
    "rolled_channels": _rolled(-2),
    "one_element_unwritten": _one_element_unwritten,
    "swapped_axes": lambda tensor: tensor.mT.reshape(tensor.shape),
}


@pytest.mark.parametrize("dtype", ALL_DTYPES, ids=str)
@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize(
    "name", ["odd", "model_hcn_short", "two_groups", "masks_all", "pool_odd", "couple_last_odd"]
)
def test_wrong_results_are_refused(name: str, wrong: str, dtype: torch.dtype) -> None:
    results, gradients, exact, exact_gradients = expected(named(name), dtype)
    refused = 0
    for tensors, right in ((results, exact), (gradients, exact_gradients)):
        for part, tensor in tensors.items():
            exact_size = float(abs(right[part].value[right[part].value == right[part].value]).max())
            noise = float((last_place(tensor, right[part]) + deviation(tensor, right[part])).max())
            if tensor.dim() < 2 or exact_size < 100 * noise:
                continue
            tampered = WRONG[wrong](tensor)
            if torch.equal(tampered.nan_to_num(), tensor.nan_to_num()):
                continue
            refused += 1
            with pytest.raises(AssertionError):
                assert_accurate(part, tampered, tensor, right[part])
    assert refused >= 1


def test_names_are_unique() -> None:
    names = [case.name for case in CASES]
    assert len(names) == len(set(names))
