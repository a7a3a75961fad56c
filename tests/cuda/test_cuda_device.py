"""What the CUDA library asks of CUDA's runtime, and when; the runtime only pretends."""

from __future__ import annotations

import ctypes
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from emulation import FOLDER, ROOT, build

from csta_fast.backends import cuda as cuda_backend

pytestmark = pytest.mark.quick

#: None of them waits for a device, allocates, or may not be called while a graph is captured.
_ASKED = {
    "cudaDeviceGetAttribute", "cudaFuncGetAttributes", "cudaFuncSetAttribute", "cudaGetDevice",
    "cudaGetErrorString", "cudaGetLastError", "cudaLaunchKernelEx",
    "cudaOccupancyMaxActiveClusters", "cudaSetDevice",
}  # fmt: skip


def test_devices_and_launches(tmp_path: Path) -> None:
    sources = (ROOT / "csrc" / "cuda" / "device.cu", FOLDER / "device_cases.cpp")
    program = build(tmp_path, sources, options=f"-I{FOLDER / 'runtime'}")
    done = subprocess.run([program], capture_output=True, text=True, check=False)
    lines = done.stdout.splitlines()
    assert [line for line in lines if not line.startswith("PASS ")] == [], done.stderr
    assert len(lines) == 20


def test_nothing_is_called_that_waits_or_allocates() -> None:
    files = [path for path in (ROOT / "csrc" / "cuda").iterdir() if path.is_file()]
    called = {
        name for path in files for name in re.findall(r"\bcuda[A-Z]\w*(?=\()", path.read_text())
    }
    assert called == _ASKED


def test_a_device_is_asked_about_while_it_is_the_current_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By PyTorch's guard: setting the device back by hand could make a context on another one."""
    current: list[int] = []

    @contextmanager
    def device(index: int) -> Iterator[None]:
        current.append(index)
        yield
        current.pop()

    def ask(index: int) -> bytes | None:
        return None if current == [index] else b"another device was the current one"

    library = SimpleNamespace(csta_fast_cuda_failure=ask)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device", device)
    monkeypatch.setattr(ctypes, "CDLL", lambda path: library)
    assert cuda_backend._ask_runtime.__wrapped__(3) is None
    assert current == []
