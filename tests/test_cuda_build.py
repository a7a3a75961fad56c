"""The CUDA library's build: what nvcc is told, what the kernels become, and who loads it.

No GPU and no driver is needed for any of it.
"""

from __future__ import annotations

import os
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import setuptools
import torch
from emulation import ROOT

from csta_fast import cuda_backend

_FILES = ("forward", "backward", "pooling", "weights")

#: Registers of a thread and bytes of its stack, at the most; nothing may be spilled. With 128
#: registers two blocks of 256 threads share a multiprocessor.
_BUDGET = {
    "forward_kernel": (128, 64),
    "backward_kernel": (128, 64),
    "pool_kernel": (112, 64),
    "pool_backward_kernel": (96, 64),
    "run_kernel": (64, 0),
    "add_runs_kernel": (64, 0),
}


def _nvcc() -> str:
    home = os.environ.get("CUDA_HOME")
    found = shutil.which(str(Path(home, "bin", "nvcc")) if home else "nvcc")
    return found or pytest.skip("there is no nvcc")


def _setup(monkeypatch: pytest.MonkeyPatch, **environment: str | None) -> dict[str, Any]:
    """What setup.py defines, in an environment."""
    for name in ("CSTA_FAST_CUDA", "CSTA_FAST_NATIVE", "FORCE_CUDA", "CUDA_HOME", "CUDA_PATH",
                 "TORCH_CUDA_ARCH_LIST"):  # fmt: skip
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        if value is not None:
            monkeypatch.setenv(name, value)
    monkeypatch.setattr(setuptools, "setup", lambda **_: None)
    monkeypatch.chdir(ROOT)
    return runpy.run_path("setup.py")


@pytest.mark.slow
@pytest.mark.parametrize("file", _FILES)
@pytest.mark.parametrize("target", ["80", "90", "100", "120"])
def test_budget(target: str, file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = f"csrc/cuda/{file}.cu"
    nvcc = _nvcc()
    command = _setup(monkeypatch, CUDA_HOME=os.environ.get("CUDA_HOME"))["command_for"](source)
    command = [word for word in command if not word.startswith("-gencode")]
    command += [f"-arch=sm_{target}", "-Xptxas", "-v", "-o", str(tmp_path / "kernel.o")]
    done = subprocess.run([nvcc, *command[1:]], capture_output=True, text=True, check=True)
    reports = re.findall(
        r"Compiling entry function '(\w+)'.*?(\d+) bytes stack frame, (\d+) bytes spill stores, "
        r"(\d+) bytes spill loads.*?Used (\d+) registers",
        done.stderr,
        re.DOTALL,
    )
    assert len(reports) == (4 if file in ("forward", "backward", "weights") else 8), done.stderr
    for symbol, stack, *spills, registers in reports:
        (name,) = (each for each in _BUDGET if re.search(rf"\d{each}I", symbol))
        assert spills == ["0", "0"], symbol
        assert (int(registers), int(stack)) <= _BUDGET[name], (symbol, registers, stack)
        assert int(stack) <= _BUDGET[name][1], (symbol, stack)
        assert "smem" not in done.stderr, "shared memory is asked for when a kernel is launched"


def test_what_nvcc_compiles_for(monkeypatch: pytest.MonkeyPatch) -> None:
    _nvcc()
    home = os.environ.get("CUDA_HOME")

    def options(wanted: str | None) -> list[str]:
        defined = _setup(monkeypatch, CUDA_HOME=home, TORCH_CUDA_ARCH_LIST=wanted)
        return [each.removeprefix("-gencode=arch=compute_") for each in defined["gpu_options"]()]

    assert options("8.6;9.0a") == ["86,code=sm_86", "90a,code=sm_90a"]
    assert options("9.0+PTX 8.0") == ["90,code=[sm_90,compute_90]", "80,code=sm_80"]
    default = options(None)
    assert default[:2] == ["80,code=sm_80", "90,code=sm_90"]
    assert re.fullmatch(r"(\d+),code=\[sm_\1,compute_\1\]", default[-1])
    with pytest.raises(SystemExit, match="TORCH_CUDA_ARCH_LIST: wanted the like of"):
        options("Hopper")


def test_a_wanted_library_without_nvcc_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    nowhere = {"CUDA_HOME": "/no/such/place"}
    defined = _setup(monkeypatch, **nowhere)
    assert defined["NVCC"] == ""
    assert "no nvcc was found (/no/such/place)" in defined["REASON_CUDA"]
    for wanted in ({"CSTA_FAST_CUDA": "1"}, {"FORCE_CUDA": "1"}):
        with pytest.raises(SystemExit, match="the CUDA kernels are wanted: no nvcc was found"):
            _setup(monkeypatch, **nowhere, **wanted)
    assert "CSTA_FAST_CUDA=0" in _setup(monkeypatch, CSTA_FAST_CUDA="0")["REASON_CUDA"]
    with pytest.raises(SystemExit, match="CSTA_FAST_CUDA: wanted auto, 0 or 1, got 'yes'"):
        _setup(monkeypatch, CSTA_FAST_CUDA="yes")


def _needs_the_library() -> None:
    if not cuda_backend.LIBRARY.exists():
        pytest.skip("the CUDA library was not built")


_REGISTERED = """
import torch
from csta_fast import cuda_backend, ops
from csta_fast.differentiation import Operations
torch.ops.load_library(str(cuda_backend.LIBRARY))
ops.register(Operations(cuda_backend.NAMESPACE))
has = torch._C._dispatch_has_kernel_for_dispatch_key
print(all(has(f"{cuda_backend.NAMESPACE}::{name}", "CUDA") for name in ops.SCHEMAS))
"""


@pytest.mark.skipif(torch.version.cuda is not None, reason="this PyTorch has CUDA")
@pytest.mark.skipif(sys.platform != "linux", reason="preloads a library")
def test_library_registers_its_operations(tmp_path: Path) -> None:
    """A PyTorch without CUDA lacks one function of those that the library calls: it is supplied."""
    _needs_the_library()
    source = tmp_path / "missing.c"
    source.write_text("int aoti_torch_get_current_cuda_stream(int i, void** s) { return 1; }")
    library = tmp_path / "missing.so"
    subprocess.run(["cc", "-shared", "-fPIC", source, "-o", library], check=True)
    command = [sys.executable, "-c", _REGISTERED]
    supplied = {**os.environ, "LD_PRELOAD": str(library)}
    done = subprocess.run(command, env=supplied, cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "True", done.stderr[-2000:]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert "undefined symbol: aoti_torch_get_current_cuda_stream" in done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="reads ELF files")
def test_library_needs_only_the_shims() -> None:
    _needs_the_library()
    declared = set()
    for header in ("csrc/shim.h", "csrc/cuda/shim.h"):
        declared |= set(re.findall(r"\b\w*torch_\w+(?=\()", (ROOT / header).read_text()))
    listed = subprocess.run(
        ["nm", "-D", "-u", cuda_backend.LIBRARY], capture_output=True, text=True
    )
    symbols = [line.split()[-2:] for line in listed.stdout.splitlines()]
    unversioned = {name for kind, name in symbols if kind == "U" and "@" not in name}
    assert unversioned <= declared
    assert {"aoti_torch_get_current_cuda_stream", "torch_library_impl"} <= unversioned
    read = subprocess.run(
        ["readelf", "-d", cuda_backend.LIBRARY], capture_output=True, text=True, check=True
    )
    needed = re.findall(r"NEEDED.*\[(.*)\]", read.stdout)
    assert {"libtorch.so", "libtorch_cpu.so"} <= set(needed)
    assert not [name for name in needed if "cuda" in name or "python" in name or "c10" in name]


def test_library_holds_every_target() -> None:
    _needs_the_library()
    triton = pytest.importorskip("triton", reason="brings the tool that lists them")
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    if not tool.exists():
        pytest.skip("this Triton has no cuobjdump")
    listed = subprocess.run(
        [tool, "--list-elf", "--list-ptx", cuda_backend.LIBRARY], capture_output=True, text=True
    ).stdout
    assert {"80", "90", "100", "120"} <= set(re.findall(r"sm_(\d+)\.cubin", listed))
    assert "sm_120.ptx" in listed
