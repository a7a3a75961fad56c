"""The contract: every case, on every backend, in every dtype it has."""

from __future__ import annotations

from math import prod
from zlib import crc32

import pytest
import torch
from backends import BACKENDS, Backend, require
from cases import CASES, FEW_CASES, Case
from contract import check

#: What Triton's interpreter and the emulator of CUDA's take: small calls, and a few as in models.
_INTERPRETED = 4_000
_INTERPRETED_MODELS = {"model_hcn", "model_ucla", "coordinates", "couple_latency"}

#: Cases with more elements than this run in the two dtypes that models are trained in.
_LARGE = 250_000
_TRAINING = (torch.float32, torch.bfloat16)


def _dtypes(case: Case, backend: Backend) -> tuple[torch.dtype, ...]:
    if backend.interpreted:
        return _interpreted_dtypes(case, backend)
    if prod(case.shape) <= _LARGE:
        return backend.dtypes
    return tuple(dtype for dtype in backend.dtypes if dtype in _TRAINING)


def _interpreted_dtypes(case: Case, backend: Backend) -> tuple[torch.dtype, ...]:
    """All for one case of each sort, one for each of the rest of csta, which has all stages.

    Triton's interpreter, the slowest, has two for one case of each sort: float64 and another.
    """
    doubles, *others = backend.dtypes
    number = crc32(case.name.encode())
    if case in FEW_CASES and prod(case.shape) <= _INTERPRETED:
        another = others[number % len(others)]
        return (doubles, another) if backend.name == "triton" else backend.dtypes
    if case.name in _INTERPRETED_MODELS:
        return (torch.float32,)
    if prod(case.shape) > _INTERPRETED or case.op != "csta":
        return ()
    return (backend.dtypes[number % len(backend.dtypes)],)


# A bug shows in most dtypes: all cases in one of them come first.
_CALLS = [
    pytest.param(
        case,
        dtype,
        backend,
        id=f"{case}-{str(dtype).removeprefix('torch.')}-{backend}",
        marks=[pytest.mark.quick] if case in FEW_CASES else [],
    )
    for dtype in BACKENDS[0].dtypes
    for case in CASES
    for backend in BACKENDS
    if dtype in _dtypes(case, backend)
]


@pytest.mark.parametrize(("case", "dtype", "backend"), _CALLS)
def test_case(case: Case, dtype: torch.dtype, backend: Backend) -> None:
    require(backend.name)
    check(case, dtype, backend)
