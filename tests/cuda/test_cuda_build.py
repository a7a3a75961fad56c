"""The CUDA library's build: what nvcc is told, what the kernels become, and who loads it.

No GPU and no driver is needed for any of it.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import budget
import instructions
import pytest
import torch
from budget import ROOT

from csta_fast.backends import cuda as cuda_backend
from csta_fast.operators import signature

toolchain = budget.toolchain

#: With 128 registers, two blocks of 256 threads share a multiprocessor.
_MOST_REGISTERS = 128

_RENEW = "if that is meant, python tests/support/budget.py renews tests/cuda/budget.md"


def _nvcc() -> Any:
    """The tool that setup.py would use."""
    found = toolchain.find_nvcc(toolchain.find_compiler())
    return found if found.command else pytest.skip(found.missing)


def _planner() -> Any:
    """What makes the plans, compiled for this machine."""
    if not toolchain.find_compiler().command:
        pytest.skip("there is no C++ compiler")
    return budget.planner()


def _committed_registers() -> tuple[str, dict[str, dict[str, str]]]:
    """The release of nvcc, and by target what is committed of each kernel."""
    text = budget.COMMITTED.read_text()
    (release,) = re.findall(r"compiled by nvcc ([\d.]+)\. ", text)
    table: dict[str, dict[str, str]] = {target: {} for target in budget.TARGETS}
    for name, cells in re.findall(r"^\| `(\w+<.*>)` \| (.*) \|$", text, re.MULTILINE):
        for target, cell in zip(budget.TARGETS, cells.split(" | "), strict=True):
            table[target][name] = cell
    return release, table


@pytest.mark.slow
@pytest.mark.parametrize("file", budget.FILES)
@pytest.mark.parametrize("target", budget.TARGETS)
def test_what_kernels_take(target: str, file: str) -> None:
    """Nothing is spilled; registers and bytes are the committed ones, neither more nor less.

    On 9.0, none adds to memory in any order.
    """
    nvcc, disassembler = _nvcc(), budget.find_disassembler()
    uses = budget.compile_kernels(file, target).uses
    assert uses
    assert [name for name, use in uses.items() if use.spilled] == []
    assert max(use.registers for use in uses.values()) <= _MOST_REGISTERS
    if target == "90" and disassembler is not None:
        assert instructions.atomics(budget.machine_code(file, target, disassembler)) == set()
    release, committed = _committed_registers()
    if budget.nvcc_release(nvcc) != release:
        pytest.skip(f"within limits; what is committed was compiled by nvcc {release}")
    found = {name: str(use) for name, use in uses.items()}
    assert found == {name: committed[target].get(name) for name in uses}, _RENEW


@pytest.mark.slow
def test_instructions_of_the_inner_loops() -> None:
    """As many for an element as are committed."""
    nvcc, disassembler = _nvcc(), budget.find_disassembler()
    if disassembler is None:
        pytest.skip("there is no nvdisasm")
    if budget.nvcc_release(nvcc) != _committed_registers()[0]:
        pytest.skip("what is committed is of another nvcc")
    assert budget.instructions_table(disassembler) in budget.COMMITTED.read_text(), _RENEW


def test_loops_are_counted() -> None:
    """An outer loop is none of them, nor what a branch leaps over without coming back."""
    lines = """
.L_x_0:
        /*0010*/                   LDS R1, [R0] ;
.L_x_1:
        /*0020*/              @!P0 BRA `(.L_x_2) ;
        /*0030*/                   LDS.U16 R2, [R0+0x10] ;
.L_x_2:
        /*0040*/               @P0 BRA `(.L_x_1) ;
        /*0050*/               @P1 RED.E.ADD.F32 desc[UR4][R2.64], R3 ;
        /*0060*/              @!P2 BRA `(.L_x_0) ;
"""
    assert instructions.inner_loops(lines.splitlines()) == [(3, {"BRA": 2, "LDS.U16": 1})]
    printed = f'\t.section\t.text._Z6kernelIfE,"ax"{lines}'
    assert instructions.atomics(printed) == {"RED.E.ADD.F32"}


def test_committed_kernels_exist() -> None:
    _, committed = _committed_registers()
    names = {name.partition("<")[0] for name in committed["80"]}
    code = "".join((ROOT / "csrc" / "cuda" / f"{file}.cu").read_text() for file in budget.FILES)
    kernel = r"\bCSTA_KERNEL\b.*?\b(\w+)\(CSTA_GRID_CONSTANT"
    assert names == set(re.findall(kernel, code, re.DOTALL))


def test_plans_are_the_committed_ones() -> None:
    """Clusters and shared memory, for the shapes of common networks on every kind of device."""
    _planner()
    _, _, committed = budget.COMMITTED.read_text().partition("## Planned\n\n")
    assert budget.plans_tables().splitlines() == committed.splitlines(), _RENEW


@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize("bfloat16", [False, True])
@pytest.mark.parametrize("shape", [(2053, 511, 512), (6000, 511, 512), (9600, 300, 400)])
def test_plans_of_samples_beyond_32_bits(
    shape: tuple[int, int, int], bfloat16: bool, backward: bool
) -> None:
    """A block never holds such a sample, and what it has of shared memory stays within limits."""
    for device in budget.DEVICES.values():
        plan = budget.plan(_planner(), device, shape, False, bfloat16, backward)
        assert plan is not None
        assert plan.held == 0
        assert 0 < plan.shared <= device.shared_of_block


def test_this_nvcc_knows_every_target(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TORCH_CUDA_ARCH_LIST", raising=False)
    options = toolchain.gpu_options(_nvcc())
    assert [re.findall(r"=compute_(\d+)", each) for each in options] == [
        ["80"], ["90"], ["100"], ["120"]
    ]  # fmt: skip
    assert options[-1].endswith("code=[sm_120,compute_120]")


def _needs_the_library() -> None:
    if not cuda_backend.LIBRARY.exists():
        pytest.skip("the CUDA library was not built")


_REGISTERED = """
import torch
from csta_fast.backends import cuda as cuda_backend
from csta_fast.operators import registration, signature
from csta_fast.operators.operators import Operators
torch.ops.load_library(str(cuda_backend.LIBRARY))
registration.register(Operators(cuda_backend.NAMESPACE))
has = torch._C._dispatch_has_kernel_for_dispatch_key
print(all(has(f"{cuda_backend.NAMESPACE}::{name}", "CUDA") for name in signature.SIGNATURES))
"""


@pytest.mark.skipif(torch.version.cuda is None, reason="this PyTorch has no CUDA")
def test_library_is_loaded_beside_pytorchs_own_runtime() -> None:
    """With or without a driver."""
    _needs_the_library()
    assert cuda_backend.unavailable is None
    has = torch._C._dispatch_has_kernel_for_dispatch_key
    assert all(has(f"{cuda_backend.NAMESPACE}::{name}", "CUDA") for name in signature.SIGNATURES)


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
    # Its own CUDA runtime must not stand in for PyTorch's.
    listed = subprocess.run(
        ["nm", "-D", "--defined-only", cuda_backend.LIBRARY], capture_output=True, text=True
    )
    assert not re.findall(r"\b_*cuda\w+", listed.stdout)
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
