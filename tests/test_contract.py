"""The contract: every case, on every backend, in every dtype it has."""

from __future__ import annotations

from math import prod

import pytest
import torch
from backends import BACKENDS, Backend, require
from cases import CASES, FEW_CASES, Case
from contract import check

#: Cases with more elements than this run in the two dtypes that models are trained in.
_LARGE = 250_000
_TRAINING = (torch.float32, torch.bfloat16)


def _dtypes(case: Case, backend: Backend) -> tuple[torch.dtype, ...]:
    if prod(case.shape) <= _LARGE:
        return backend.dtypes
    return tuple(dtype for dtype in backend.dtypes if dtype in _TRAINING)


_CALLS = [
    pytest.param(
        case,
        dtype,
        backend,
        id=f"{case}-{str(dtype).removeprefix('torch.')}-{backend}",
        marks=[pytest.mark.quick] if case in FEW_CASES else [],
    )
    for case in CASES
    for dtype in BACKENDS[0].dtypes
    for backend in BACKENDS
    if dtype in _dtypes(case, backend)
]


@pytest.mark.parametrize(("case", "dtype", "backend"), _CALLS)
def test_case(case: Case, dtype: torch.dtype, backend: Backend) -> None:
    require(backend.name)
    check(case, dtype, backend)
