"""The backends under test. A new one joins every contract test by one more row here."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass

import pytest
import torch

from csta_fast.backends import cpu as cpu_backend
from csta_fast.backends import cuda as cuda_backend
from csta_fast.backends import triton as triton_backend

ALL_DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


@dataclass(frozen=True)
class Backend:
    """A backend's name, where it runs, what it computes in, and whether it promises strides."""

    name: str
    device: str
    dtypes: tuple[torch.dtype, ...] = ALL_DTYPES
    keeps_layout: bool = True
    interpreted: bool = False  # a thousand times slower: small calls only

    def __str__(self) -> str:
        return self.name


#: Whether the CUDA kernels run as they are. If not, their source runs on the emulator.
CUDA_IS_HERE = torch.cuda.is_available() and cuda_backend.unavailable is None
EMULATED = Backend("cuda-emulated", "cpu", interpreted=True)

BACKENDS = (
    Backend("cpu", "cpu"),
    Backend(
        "triton",
        "cuda" if torch.cuda.is_available() else "cpu",
        interpreted=triton_backend.INTERPRETED,
    ),
    Backend("cuda", "cuda") if CUDA_IS_HERE else EMULATED,
    Backend("reference", "cpu", keeps_layout=False),
)

#: (backend, dtype) pairs to parametrise with.
BACKEND_DTYPES = [
    pytest.param(backend, dtype, id=f"{backend}-{str(dtype).removeprefix('torch.')}")
    for backend in BACKENDS
    for dtype in backend.dtypes
]


def native_was_declined() -> bool:
    """Whether this machine has a good reason to lack the native library."""
    compilers = (os.environ.get("CXX", "c++"), "c++", "g++", "clang++")
    return os.environ.get("CSTA_FAST_NATIVE") == "0" or not any(map(shutil.which, compilers))


def require(name: str) -> None:
    """Skip a test of a backend that cannot be here; fail where it should be here and is not."""
    if name == "cpu" and cpu_backend.unavailable is not None:
        if native_was_declined():
            pytest.skip(cpu_backend.unavailable)
        pytest.fail(cpu_backend.unavailable)
    if name == "cuda-emulated":
        import emulation

        emulation.install()
    if name == "triton" and triton_backend.unavailable is not None:
        pytest.skip(triton_backend.unavailable)
