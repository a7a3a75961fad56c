"""What ``python -m bench.gpu`` runs, step by step, as commands."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.gpu_groups import GPU_GROUPS
from bench.processes import Command
from csta_fast.backends import BACKENDS

STEPS = ("first", "contract", "sanitizer", "bench")
SANITIZER = "compute-sanitizer"
TOOLS = ("memcheck", "racecheck", "initcheck", "synccheck")

_FIRST = "tests/operators/test_on_gpu.py"
#: Compile for devices that need not be there, or for the emulator.
_NEED_NO_GPU = (
    "tests/bench", "tests/cuda", "tests/package/test_packaging.py",
    "tests/triton/test_triton_compile.py",
)  # fmt: skip
_MOST_WORKERS = 12  # each has a context of its own on the GPU, of some hundred megabytes
_FOUND_SOMETHING = 99  # the exit status of a sanitizer that did
_LONGEST_TEST = 40  # seconds, compiling included: one that hangs is named before time is up
_LONGEST_GROUP = 240  # seconds; two modes of torch.compile are part of it
_UNBUFFERED = {"PYTHONUNBUFFERED": "1"}
_SHARE_TO_START = 0.75  # of the benches' time; what began then may finish in the rest


@dataclass(frozen=True, slots=True)
class Choices:
    """What the user wants of a run; see the options of ``python -m bench.gpu``."""

    folder: Path
    steps: tuple[str, ...] = STEPS
    quick: bool = False
    workers: int = 0  # 0: as many as there are processors, up to a limit
    sections: tuple[str, ...] = ()
    shapes: tuple[str, ...] = ()
    select: str = ""
    rivals: str = "default"
    full: bool = False
    seconds: float = 1.0
    first_limit: float = 130.0
    contract_limit: float = 400.0
    sanitizer_limit: float = 100.0
    bench_limit: float = 540.0


def device_backends() -> tuple[str, ...]:
    """Names of the backends that compute on a GPU."""
    return tuple(name for name in BACKENDS if name not in ("cpu", "reference"))


def machine(folder: Path) -> Command:
    words = (sys.executable, "-m", "bench.device", str(folder / "machine.json"))
    return Command(words, "machine.txt", 120)


def first(choices: Choices) -> dict[str, list[Command]]:
    """By backend: the tests of what only a GPU can show."""
    return {
        name: [_watched_tests(name, f"first-{name}.txt", choices.first_limit, _FIRST)]
        for name in device_backends()
    }


def contract(choices: Choices) -> dict[str, list[Command]]:
    """By backend: the tests whose name holds its name, in parts that run side by side."""
    names = device_backends()
    processors = os.cpu_count() or 1
    parts = max(1, (choices.workers or min(_MOST_WORKERS, processors)) // len(names))
    # Else plain PyTorch has a thread on every processor in every process, and compilers wait.
    threads = max(1, processors // (parts * len(names)))
    words = ["tests", *["-m", "quick"] * choices.quick]
    words += [f"--ignore={_FIRST}"]
    words += [f"--ignore={each}" for each in _NEED_NO_GPU]
    return {
        name: [
            _watched_tests(name, f"contract-{name}-{part}.txt", choices.contract_limit, *words,
                           "-p", "bench.shard", f"--shard={part}/{parts}", threads=threads)
            for part in range(1, parts + 1)
        ]
        for name in names
    }  # fmt: skip


def _watched_tests(
    backend: str, log: str, limit: float, *words: str, threads: int | None = None
) -> Command:
    """Tests of one backend, in a process that another backend's faults do not reach."""
    # A library for GPUs that is not there has its emulator take part under a similar name.
    command = [sys.executable, "-m", "bench.gpu_watch", *words]
    command += ["-k", f"{backend} and not emulated", "-v", "--no-summary", "-p", "no:cacheprovider"]
    command += [f"--longest-test={_LONGEST_TEST}"]
    # Tests of the native library are not meant here, and it may well not have been built.
    environment = {"CSTA_FAST_NATIVE": "0", **_UNBUFFERED}
    if threads is not None:
        environment["OMP_NUM_THREADS"] = f"{threads}"
    return Command(tuple(command), log, limit, environment)


def sanitizer(choices: Choices) -> dict[str, list[Command]]:
    """By tool: each backend's calls by themselves, which compiles kernels; then under every tool.

    The tools are slow on the host, and run side by side.
    """
    tools = ("none", *TOOLS) if shutil.which(SANITIZER) is not None else ("none",)
    return {tool: [_watched(tool, name, choices) for name in device_backends()] for tool in tools}


def side_by_side(tools: Mapping[str, Sequence[Command]]) -> list[list[Command]]:
    """What of that runs at once: first the calls by themselves, then all tools."""
    alone = list(tools["none"])
    watched = [command for tool in TOOLS for command in tools.get(tool, ())]
    return [alone, watched] if watched else [alone]


def _watched(tool: str, backend: str, choices: Choices) -> Command:
    calls = (sys.executable, "-m", "bench.gpu_calls", "--backend", backend)
    log = f"sanitizer-{tool}-{backend}.txt"
    if tool == "none":
        return Command(calls, log, choices.sanitizer_limit, _UNBUFFERED)
    words = (SANITIZER, "--tool", tool, "--error-exitcode", str(_FOUND_SOMETHING), *calls)
    # Every tensor is an allocation of its own then, with bounds that the tool knows.
    environment = {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1", **_UNBUFFERED}
    return Command(words, log, 2 * choices.sanitizer_limit, environment)


def bench(choices: Choices, backend: str | None = None) -> Command:
    """The benches, of all backends that serve or of one."""
    results = next_results(choices.folder)
    words = [sys.executable, "-m", "pytest", "bench", "-v", "--benchmark-only", "--device=cuda"]
    words += [f"--results={results}"]
    words += [f"--seconds={choices.seconds:g}", f"--rivals={choices.rivals}"]
    words += [f"--budget={_SHARE_TO_START * choices.bench_limit:g}"]
    words += ["-p", "no:cacheprovider", "-p", "bench.gpu_watch", f"--longest-test={_LONGEST_GROUP}"]
    words += ["--full"] * choices.full + [f"--backend={backend}"] * (backend is not None)
    words += [f"--section={section}" for section in choices.sections]
    selected = [f"({' or '.join(f'-{shape}-' for shape in choices.shapes)})"] * bool(choices.shapes)
    selected += [f"({choices.select})"] * bool(choices.select)
    if selected:
        words += ["-k", " and ".join(selected)]
    log = results.with_suffix(".txt").name
    return Command(tuple(words), log, choices.bench_limit, _UNBUFFERED)


def report(folder: Path, with_next: bool = False) -> Command:
    """Rendering of all results in the folder, and of those that the next benches will write."""
    results = [*all_results(folder), *[next_results(folder)] * with_next]
    words = (sys.executable, "-m", "bench.report", *map(str, results))
    return Command((*words, "--output", str(folder)), "report.txt", 120)


def all_results(folder: Path) -> list[Path]:
    """Files of results in the order in which they were measured."""
    return sorted(folder.glob("bench*.json"), key=lambda path: (len(path.name), path.name))


def next_results(folder: Path) -> Path:
    """bench.json, or the next of bench-2.json, ...: what was measured before stays."""
    count = len(all_results(folder))
    return folder / (f"bench-{count + 1}.json" if count else "bench.json")


def shapes() -> list[str]:
    """Shapes as they stand in the names of tests."""
    return list(dict.fromkeys("x".join(map(str, group.shape)) for group in GPU_GROUPS.values()))
