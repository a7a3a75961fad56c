"""Compiles the CUDA kernels for the CPU, over the emulator in tests/cuda."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "tests" / "cuda"
MACHINE = tuple(FOLDER / f"{name}.cpp" for name in ("emulator", "machine", "fibers"))
_COMMON = "-std=c++20 -Wall -Wextra -Wno-unknown-pragmas -fPIC -Icsrc -Itests/cuda"
_MODES = {
    "plain": "-O1",
    "address": "-O1 -g1 -fsanitize=address,undefined -fno-sanitize-recover=all",
    "thread": "-O1 -g1 -fsanitize=thread",
}
#: The machine itself is no part of what the thread sanitizer watches.
_UNWATCHED = "-O1 -g1 -DEMULATOR_UNDER_THREAD_SANITIZER"


def compiler() -> list[str]:
    """The command of a C++ compiler; the test is skipped where there is none that will do."""
    for command in (os.environ.get("CXX", "c++"), "g++", "clang++"):
        words = shlex.split(command)
        if words and shutil.which(words[0]) and _takes_half_precision(words):
            return words
    pytest.skip("no C++20 compiler with 16-bit floats was found")


def _takes_half_precision(words: list[str]) -> bool:
    code = "#include <source_location>\nfloat f(_Float16 x) { return x; }"
    command = [*words, "-std=c++20", "-x", "c++", "-fsyntax-only", "-"]
    return subprocess.run(command, input=code, text=True, capture_output=True).returncode == 0


def build(
    folder: Path, sources: tuple[Path, ...], mode: str = "plain", options: str = "",
    link: str = "", name: str = "program",
) -> Path:  # fmt: skip
    """Compile C++ and CUDA sources and link them with the machine; the result's path."""
    words = compiler()

    def compile_file(source: Path) -> str:
        unwatched = mode == "thread" and source in MACHINE
        flags = _UNWATCHED if unwatched else _MODES[mode]
        target = folder / f"{source.stem}.{mode}.o"
        _run(*words, *shlex.split(f"{_COMMON} {flags} {options}"), "-x", "c++", "-c", source,
             "-o", target)  # fmt: skip
        return str(target)

    with ThreadPoolExecutor(2) as pool:
        objects = list(pool.map(compile_file, (*sources, *MACHINE)))
    result = folder / f"{name}.{mode}"
    _run(*words, *shlex.split(_MODES[mode]), *objects, "-o", result, *shlex.split(link))
    return result


def _run(*command: object) -> None:
    done = subprocess.run(
        [str(word) for word in command], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{shlex.join(map(str, command))}\n{done.stderr[-4000:]}"
