"""What the CUDA kernels take of a GPU, as nvcc and the plans say, without one.

``tests/cuda/budget.md`` holds it as it was when it was last looked at, and ``test_cuda_build.py``
compares. Where a change is meant, ``python tests/support/budget.py`` renews the file: its diff
belongs into the change. Registers depend on the compiler, so they are compared under the same
nvcc only.
"""

from __future__ import annotations

import ctypes
import importlib.util
import re
import runpy
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import instructions

ROOT = Path(__file__).resolve().parents[2]
COMMITTED = ROOT / "tests" / "cuda" / "budget.md"
FILES = (
    "general/forward", "general/backward", "general/pooling", "dense/dense_forward",
    "dense/dense_backward", "weights",
)  # fmt: skip
TARGETS = ("80", "90", "100", "120")

#: What setup.py knows of compilers. It is no part of the package, which may be an installed one.
toolchain = SimpleNamespace(**runpy.run_path(str(ROOT / "csrc" / "toolchain.py")))


class Device(NamedTuple):
    """Limits of a compute capability (CUDA C++ Programming Guide, chapter of that name)."""

    most_cluster: int  # blocks of a cluster; 1 without clusters
    shared_of_block: int  # bytes that one block may have
    shared_of_processor: int  # bytes that the blocks on a multiprocessor share


DEVICES = {
    "8.0": Device(1, 163 * 1024, 164 * 1024),
    "9.0 and 10.0": Device(16, 227 * 1024, 228 * 1024),
    "12.0": Device(8, 99 * 1024, 100 * 1024),
}

#: (C, T, V) of common networks' layers, then odd ones.
SHAPES = (
    (64, 64, 25), (64, 32, 25), (25, 64, 32), (128, 32, 25), (256, 16, 25),  # HCN, CTR-GCN
    (64, 100, 25), (128, 50, 25), (256, 25, 25),  # pyskl
    (64, 300, 25), (128, 150, 25), (256, 75, 25),  # 2s-AGCN
    (24, 288, 25), (48, 288, 25), (64, 144, 25), (128, 72, 25), (272, 72, 25),  # EfficientGCN
    (64, 52, 20),  # Northwestern-UCLA
    (3, 64, 25), (5, 7, 17), (64, 1, 25), (64, 64, 1), (1, 64, 25),
)  # fmt: skip
CHANNELS_LAST = ((64, 64, 25), (256, 16, 25), (64, 300, 25), (3, 64, 25))


class Use(NamedTuple):
    """What a compiled kernel takes: registers of a thread, and bytes."""

    registers: int
    stack: int
    shared: int
    spilled: int

    def __str__(self) -> str:
        stack = f", {self.stack} B stack" if self.stack else ""
        return f"{self.registers}{stack}" + (f", {self.shared} B shared" if self.shared else "")


def nvcc_release(nvcc: Any) -> str:
    """Like "13.0"."""
    command = [nvcc.command[0], "--version"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return re.findall(r"release (\d+\.\d+)", printed)[0]


class Compiled(NamedTuple):
    """A file of kernels for one target: what each takes, and the machine code of all."""

    uses: dict[str, Use]
    cubin: bytes


@cache
def compile_kernels(file: str, target: str) -> Compiled:
    """Compile ``csrc/cuda/{file}.cu`` for a target as setup.py does, less the host's part."""
    with tempfile.TemporaryDirectory() as folder:
        cubin = Path(folder, "kernel.cubin")
        done = _compile(file, target, "-Xptxas", "-v", "-cubin", "-o", str(cubin))
        return Compiled(dict(_uses(done.stderr)), cubin.read_bytes())


def _compile(file: str, target: str, *options: str) -> subprocess.CompletedProcess[str]:
    compiler = toolchain.find_compiler()
    nvcc = toolchain.find_nvcc(compiler)
    command = toolchain.to_compile(f"csrc/cuda/{file}.cu", compiler, nvcc)
    command = [word for word in command if not word.startswith("-gencode")]
    return subprocess.run(
        [*command, f"-arch=sm_{target}", *options],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip


def find_disassembler() -> str | None:
    """nvdisasm, on PATH or Triton's; nvcc has none of its own."""
    found = importlib.util.find_spec("triton")
    folders = found.submodule_search_locations if found else None
    own = [Path(folder, "backends", "nvidia", "bin", "nvdisasm") for folder in folders or ()]
    return shutil.which("nvdisasm") or next((str(path) for path in own if path.exists()), None)


def machine_code(file: str, target: str, disassembler: str) -> str:
    """What a disassembler makes of ``csrc/cuda/{file}.cu`` compiled for a target."""
    with tempfile.TemporaryDirectory() as folder:
        cubin = Path(folder, "kernel.cubin")
        cubin.write_bytes(compile_kernels(file, target).cubin)
        command = [disassembler, "-c", str(cubin)]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def _uses(report: str) -> Iterator[tuple[str, Use]]:
    """The kernels of ptxas' report, by names like "pool_kernel<Half>"."""
    plain = subprocess.run(["c++filt"], input=report, capture_output=True, text=True, check=True)
    for entry in plain.stdout.split("Compiling entry function ")[1:]:
        (name,) = re.findall(r"::(\w+<.*?>)\(", entry.splitlines()[0])
        numbers = [
            re.findall(pattern, entry)
            for pattern in (r"Used (\d+) registers", r"(\d+) bytes stack", r"(\d+) bytes smem",
                            r"(\d+) bytes spill")
        ]  # fmt: skip
        yield name.replace("csta::cuda::", ""), Use(*(sum(map(int, found)) for found in numbers))


_INSTRUCTIONS = """\
Instructions per element in the inner loops of the dense kernels, on 9.0. Code around the
loops is shared by a block's channels and not counted."""


def instructions_table(disassembler: str) -> str:
    """Markdown: instructions of the inner loops for an element."""
    printed = {
        file: machine_code(file, "90", disassembler)
        for file in ("dense/dense_forward", "dense/dense_backward")
    }
    return f"{_INSTRUCTIONS}\n\n{instructions.table(printed)}"


def registers_table(uses: dict[str, dict[str, Use]], release: str) -> str:
    """Markdown, from what each kernel takes for each target."""
    lines = [f"Registers of a thread, compiled by nvcc {release}. Nothing is spilled.", ""]
    lines += _row("kernel", *(f"{target[:-1]}.{target[-1]}" for target in TARGETS))
    lines += _row("---", *("---:" for _ in TARGETS))
    for name in sorted(uses):
        lines += _row(f"`{name}`", *(uses[name][target] for target in TARGETS))
    return "\n".join(lines)


def _row(*cells: object) -> list[str]:
    return ["| " + " | ".join(map(str, cells)) + " |"]


_LEGEND = """\
Blocks of a cluster × threads of a block; what is held of a sample, in bytes (backward: of grad_y,
and slots of x × bytes of each), or else slots × bytes of each (backward: slots of grad_y + of x);
bytes of shared memory, with a star where sums and means do not fit in it. Two heads, one group."""


def plans_tables() -> str:
    """Markdown: what is planned for the shapes on each kind of device."""
    plan_of = planner()
    lines = [_LEGEND]
    for name, device in DEVICES.items():
        heads = [f"{task} {dtype}" for dtype in ("float32", "bfloat16")
                 for task in ("forward", "backward")]  # fmt: skip
        lines += ["", f"### Compute capability {name}", "", *_row("(C, T, V)", *heads)]
        lines += _row("---", *("---" for _ in heads))
        for shape, last in (*((s, False) for s in SHAPES), *((s, True) for s in CHANNELS_LAST)):
            cells = [
                _cell(plan(plan_of, device, shape, last, bfloat16, backward), backward)
                for bfloat16 in (False, True)
                for backward in (False, True)
            ]
            lines += _row(f"{shape}{', channels last' if last else ''}", *cells)
    return "\n".join(lines)


@cache
def planner() -> Any:
    """The plans of csrc/cuda, compiled for this machine."""
    compiler = toolchain.find_compiler()
    sources = (
        "tests/cuda/plans.cpp",
        "csrc/cuda/general/plan.cpp",
        "csrc/cuda/dense/dense_plan.cpp",
    )
    with tempfile.TemporaryDirectory() as folder:
        library = f"{folder}/plans.so"
        command = [*compiler.command, "-std=c++17", "-shared", "-fPIC", "-Icsrc", *sources]
        subprocess.run([*command, "-o", library], cwd=ROOT, check=True)
        plan_of = ctypes.CDLL(library).plan_of
    flags, limits = [ctypes.c_bool] * 3, [ctypes.c_int32, ctypes.c_int64, ctypes.c_int64]
    plan_of.argtypes = [ctypes.c_void_p, *flags, *limits, ctypes.c_void_p]
    plan_of.restype = ctypes.c_bool
    return plan_of


class Plan(NamedTuple):
    """What tests/cuda/plans.cpp tells of a plan."""

    blocks: int
    threads: int
    first_slots: int
    second_slots: int
    slot: int
    shared: int
    layout_in_shared: int
    held: int


def plan(
    plan_of: Any, device: Device, shape: tuple[int, int, int], channels_last: bool,
    bfloat16: bool, backward: bool,
) -> Plan | None:  # fmt: skip
    """The plan of a call, by what `planner` gives."""
    numbers = (ctypes.c_int64 * len(Plan._fields))()
    sizes = (ctypes.c_int32 * 3)(*shape)
    if not plan_of(sizes, channels_last, bfloat16, backward, *device, numbers):
        return None
    return Plan(*numbers)


def _cell(made: Plan | None, backward: bool) -> str:
    if made is None:
        return "none"
    star = "" if made.layout_in_shared else "\\*"
    slots = str(made.held or made.first_slots)
    if backward:
        slots += f" + {made.second_slots}"
    slot = f" × {made.slot}" if backward or not made.held else ""
    return f"{made.blocks}×{made.threads}; {slots}{slot}; {made.shared}{star}"


def main() -> None:
    """Renew the committed file."""
    disassembler = find_disassembler()
    if disassembler is None:
        raise SystemExit("there is no nvdisasm; pip install triton has one")
    plans, counted = plans_tables(), instructions_table(disassembler)
    jobs = [(file, target) for file in FILES for target in TARGETS]
    with ThreadPoolExecutor(2) as pool:
        compiled = list(pool.map(lambda job: compile_kernels(*job), jobs))
    uses: dict[str, dict[str, Use]] = {}
    for (_, target), kernels in zip(jobs, compiled, strict=True):
        for name, use in kernels.uses.items():
            if use.spilled:
                raise SystemExit(f"{name} spills {use.spilled} bytes on {target}: wanted none")
            uses.setdefault(name, {})[target] = use
    release = nvcc_release(toolchain.find_nvcc(toolchain.find_compiler()))
    COMMITTED.write_text(
        "# What the CUDA kernels take of a GPU\n\nWritten by `python tests/support/budget.py`; "
        "the tests compare.\n\n"
        f"## Compiled\n\n{registers_table(uses, release)}\n\n{counted}\n\n"
        f"## Planned\n\n{plans}\n"
    )


if __name__ == "__main__":
    main()
