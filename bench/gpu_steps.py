"""What ``python -m bench.gpu`` runs, step by step, as commands."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from bench.gpu_groups import GPU_GROUPS
from bench.processes import Command
from csta_fast.backends import BACKENDS

STEPS = ("contract", "sanitizer", "bench")
SANITIZER = "compute-sanitizer"
TOOLS = ("memcheck", "racecheck", "initcheck", "synccheck")

_NEED_NO_GPU = ("tests/test_triton_compile.py",)  # compiles for devices that need not be there
_MOST_WORKERS = 8  # each has a context of its own on the GPU, of some hundred megabytes
_FOUND_SOMETHING = 99  # the exit status of a sanitizer that did
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
    contract_limit: float = 540.0
    sanitizer_limit: float = 110.0
    bench_limit: float = 540.0


def device_backends() -> tuple[str, ...]:
    """Names of the backends that compute on a GPU."""
    return tuple(name for name in BACKENDS if name not in ("cpu", "reference"))


def machine(folder: Path) -> Command:
    words = (sys.executable, "-m", "bench.gpu_machine", str(folder / "machine.json"))
    return Command(words, "machine.txt", 120)


def contract(choices: Choices) -> list[Command]:
    """The tests whose name holds a GPU backend's, in parts that run side by side."""
    parts = choices.workers or min(_MOST_WORKERS, os.cpu_count() or 1)
    words = [sys.executable, "-m", "pytest", "tests", "-q", "-k", " or ".join(device_backends())]
    words += ["-m", "quick"] * choices.quick
    words += [f"--ignore={path}" for path in _NEED_NO_GPU]
    words += ["-p", "no:cacheprovider", "-p", "bench.shard"]
    # Tests of the native library are not meant here, and it may well not have been built.
    environment = {"CSTA_FAST_NATIVE": "0"}
    return [
        Command((*words, f"--shard={part}/{parts}"), f"contract-{part}.txt",
                choices.contract_limit, environment)
        for part in range(1, parts + 1)
    ]  # fmt: skip


def sanitizer(choices: Choices) -> list[Command]:
    """The calls by themselves, which compiles the kernels; then under every tool there is."""
    calls = (sys.executable, "-m", "bench.gpu_calls")
    commands = [Command(calls, "sanitizer-none.txt", choices.sanitizer_limit)]
    if shutil.which(SANITIZER) is None:
        return commands
    # Every tensor is an allocation of its own then, with bounds that the tool knows.
    environment = {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}
    for tool in TOOLS:
        watched = (SANITIZER, "--tool", tool, "--error-exitcode", str(_FOUND_SOMETHING), *calls)
        log = f"sanitizer-{tool}.txt"
        commands.append(Command(watched, log, choices.sanitizer_limit, environment))
    return commands


def bench(choices: Choices) -> Command:
    results = next_results(choices.folder)
    words = [sys.executable, "-m", "pytest", "bench", "-q", "--benchmark-only", "--device=cuda"]
    words += [f"--benchmark-json={results}", f"--seconds={choices.seconds:g}"]
    words += [f"--budget={_SHARE_TO_START * choices.bench_limit:g}", f"--rivals={choices.rivals}"]
    words += ["-p", "no:cacheprovider"] + ["--full"] * choices.full
    words += [f"--section={section}" for section in choices.sections]
    selected = [f"({' or '.join(f'-{shape}-' for shape in choices.shapes)})"] * bool(choices.shapes)
    selected += [f"({choices.select})"] * bool(choices.select)
    if selected:
        words += ["-k", " and ".join(selected)]
    return Command(tuple(words), results.with_suffix(".txt").name, choices.bench_limit)


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
