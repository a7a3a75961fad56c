"""The CUDA library's build: what nvcc is told, what the kernels become, and who loads it.

No GPU and no driver is needed for any of it.
"""

from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
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


#: What setup.py knows of compilers. It is no part of the package, which may be an installed one.
toolchain = SimpleNamespace(**runpy.run_path(str(ROOT / "csrc" / "toolchain.py")))


def _nvcc() -> Any:
    """The tool that setup.py would use."""
    found = toolchain.find_nvcc(toolchain.find_compiler())
    return found if found.command else pytest.skip(found.missing)


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An environment that says nothing about compilers, to change."""
    for name in ("CSTA_FAST_CUDA", "CSTA_FAST_NATIVE", "FORCE_CUDA", "CUDA_HOME", "CUDA_PATH",
                 "CXX", "NVCC_FLAGS", "TORCH_CUDA_ARCH_LIST"):  # fmt: skip
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def _program(path: Path, script: str = "") -> str:
    """Make a program; its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.slow
@pytest.mark.parametrize("file", _FILES)
@pytest.mark.parametrize("target", ["80", "90", "100", "120"])
def test_budget(target: str, file: str, tmp_path: Path) -> None:
    nvcc = _nvcc()
    command = toolchain.to_compile(f"csrc/cuda/{file}.cu", toolchain.find_compiler(), nvcc)
    command = [word for word in command if not word.startswith("-gencode")]
    command += [f"-arch=sm_{target}", "-Xptxas", "-v", "-o", str(tmp_path / "kernel.o")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
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


def test_what_nvcc_compiles_for(tmp_path: Path, bare: pytest.MonkeyPatch) -> None:
    """Under an nvcc that knows 8.0, 9.0 and later ones that nobody asks for."""
    known = "echo compute_75; echo compute_80; echo compute_90; echo compute_110"
    nvcc = toolchain.Tool((_program(tmp_path / "nvcc", known),))

    def options(wanted: str | None) -> list[str]:
        bare.setenv("TORCH_CUDA_ARCH_LIST", wanted or "")
        return [each.removeprefix("-gencode=arch=compute_") for each in toolchain.gpu_options(nvcc)]

    assert options("8.6;9.0a") == ["86,code=sm_86", "90a,code=sm_90a"]
    assert options("9.0+PTX 8.0") == ["90,code=[sm_90,compute_90]", "80,code=sm_80"]
    assert options(None) == ["80,code=sm_80", "90,code=[sm_90,compute_90]"]
    with pytest.raises(SystemExit, match="TORCH_CUDA_ARCH_LIST: wanted the like of"):
        options("Hopper")
    _program(tmp_path / "nvcc", "echo compute_52")
    with pytest.raises(SystemExit, match=r"nvcc: wanted one that knows any of 8\.0;"):
        options(None)


def test_this_nvcc_knows_every_target(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TORCH_CUDA_ARCH_LIST", raising=False)
    options = toolchain.gpu_options(_nvcc())
    assert [re.findall(r"=compute_(\d+)", each) for each in options] == [
        ["80"], ["90"], ["100"], ["120"]
    ]  # fmt: skip
    assert options[-1].endswith("code=[sm_120,compute_120]")


def test_where_nvcc_is_looked_for(tmp_path: Path, bare: pytest.MonkeyPatch) -> None:
    """CUDA_HOME, else PATH, else this environment's packages."""
    compiler = toolchain.Tool(("ccache", "/opt/bin/g++", "-m64"))

    def found() -> Any:
        return toolchain.find_nvcc(compiler)

    bare.setattr("sysconfig.get_path", lambda _: str(tmp_path / "packages"))
    bare.setenv("PATH", str(tmp_path / "path"))
    assert "no nvcc was found (PATH)" in found().missing
    for place in ("packages/nvidia/cu13/bin", "path", "home/bin"):
        nvcc = _program(tmp_path / place / "nvcc")
        if place == "home/bin":
            bare.setenv("CUDA_HOME", str(tmp_path / "home"))
        # ccache is no compiler that nvcc could call for the host.
        assert found() == ((nvcc, "-ccbin", "/opt/bin/g++"), "")
    bare.setenv("CUDA_HOME", "/no/such/place")
    assert "no nvcc was found (/no/such/place)" in found().missing


def test_cuda_from_pypi_is_linked(tmp_path: Path) -> None:
    """Its libraries lie in lib, where its nvcc does not look."""
    nvcc = toolchain.Tool((_program(tmp_path / "bin" / "nvcc", "echo compute_80"),))
    assert f"-L{tmp_path / 'lib'}" in toolchain.to_link_cuda("stubs", nvcc)


@pytest.mark.parametrize("wanted", ["CSTA_FAST_CUDA", "FORCE_CUDA"])
def test_a_wanted_library_without_its_compilers_is_an_error(
    wanted: str, bare: pytest.MonkeyPatch
) -> None:
    bare.setenv(wanted, "1")
    bare.setenv("CUDA_HOME", "/no/such/place")
    with pytest.raises(SystemExit, match="the CUDA kernels are wanted: no nvcc was found"):
        toolchain.find_nvcc(toolchain.Tool(("c++",)))
    bare.setenv("CXX", "no-such-c++")
    with pytest.raises(SystemExit, match=r"are wanted: no C\+\+ compiler \(no-such-c\+\+\) was"):
        toolchain.find_nvcc(toolchain.find_compiler())


def test_a_declined_library(bare: pytest.MonkeyPatch) -> None:
    bare.setenv("FORCE_CUDA", "1")
    bare.setenv("CSTA_FAST_CUDA", "0")
    assert "CSTA_FAST_CUDA=0" in toolchain.find_nvcc(toolchain.Tool(("c++",))).missing
    bare.setenv("CSTA_FAST_CUDA", "yes")
    with pytest.raises(SystemExit, match="CSTA_FAST_CUDA: wanted auto, 0 or 1, got 'yes'"):
        toolchain.find_nvcc(toolchain.Tool(("c++",)))


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
