"""Compiles the CUDA kernels for the CPU, over the emulator in tests/cuda; and their backend there.

The backend goes by the name ``cuda-emulated``. Nothing but a test that names it gets it: it is no
entry of the package's list.
"""

from __future__ import annotations

import ctypes
import fcntl
import hashlib
import os
import shlex
import shutil
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import torch

from csta_fast import backends

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "tests" / "cuda"
MACHINE = tuple(FOLDER / f"{name}.cpp" for name in ("emulator", "machine", "fibers"))
_NAMES_OF_KERNELS = (
    "general/forward.cu general/backward.cu general/pooling.cu general/plan.cpp "
    "dense/dense_forward.cu dense/dense_backward.cu dense/dense_plan.cpp weights.cu invocation.cpp"
)
KERNELS = tuple(ROOT / "csrc" / "cuda" / name for name in _NAMES_OF_KERNELS.split())
_LIBRARY = (*KERNELS, ROOT / "csrc" / "cuda" / "register.cpp", FOLDER / "emulated_device.cpp")
_NAMESPACE = "csta_fast_emulated"
_NAMES = f"""'-DCSTA_NAMESPACE="{_NAMESPACE}"' '-DCSTA_DISPATCH_KEY="CPU"'"""
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
    options += " " + os.environ.get("CXXFLAGS", "")

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


def _library() -> Path:
    """The emulated kernels, compiled unless the same sources were before."""
    sources = sorted(
        path
        for folder in (ROOT / "csrc", FOLDER)
        for path in folder.rglob("*")
        if path.suffix in (".h", ".cpp", ".cu")
    )
    flags = os.environ.get("CXXFLAGS", "")
    state = hashlib.sha256("".join([flags, *(path.read_text() for path in sources)]).encode())
    library = ROOT / "build" / "emulated" / f"{state.hexdigest()[:16]}.so"
    library.parent.mkdir(parents=True, exist_ok=True)
    with library.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # processes that start together wait for one compilation
        if not library.exists():
            folder = Path(torch.__file__).parent / "lib"
            link = f"-shared -Wl,-Bsymbolic -L{folder} -Wl,--no-as-needed -ltorch_cpu"
            with tempfile.TemporaryDirectory(dir=library.parent) as temporary:
                build(Path(temporary), _LIBRARY, "plain", _NAMES, link).replace(library)
    return library


class _Backends(dict[str, Any]):
    """The package's backends, and one that is found by its name and listed nowhere."""

    def __init__(self, listed: dict[str, Any], hidden: Any) -> None:
        super().__init__(listed)
        self.hidden = hidden

    def get(self, name: str, default: Any = None) -> Any:
        return self.hidden if name == self.hidden.name else super().get(name, default)


@lru_cache(maxsize=1)
def install() -> ctypes.CDLL:
    """Make the backend ``cuda-emulated``, once; returns the library to adjust it."""
    path = _library()
    library = ctypes.CDLL(str(path))
    torch.ops.load_library(str(path))
    backend = backends._fused(
        "cuda-emulated", _NAMESPACE, "the CUDA kernels on the CPU", lambda x: None,
        backends.registration.register,
    )  # fmt: skip
    backends.BACKENDS = _Backends(backends.BACKENDS, backend)
    for name in ("bytes", "launches", "overlaps"):
        getattr(library, f"emulated_{name}").restype = ctypes.c_uint64
    adjust(library)
    return library


ORDERS = {"forward": 0, "reverse": 1, "random": 2, "block by block": 3}
LANDINGS = {"at once": 0, "late": 1, "random": 2}


def adjust(
    library: ctypes.CDLL, *, order: str = "forward", landing: str = "late", seed: int = 1,
    bulk_copies: bool = True, clusters: bool = True, shared_bytes: int = 232_448,
    chunk_bytes: int = 16_384, threads: int = 64, most_blocks: int = 8,
    host_sees_values: bool = True, refused: int = 0, dense: bool = True,
) -> None:  # fmt: skip
    """Say how the kernels run from now on: the threads' order, the device, the plan's sizes.

    ``refused``: which of the launches to come fails, from 1. ``dense``: whether dense samples use
    the dense kernels.
    """
    library.emulate(
        ORDERS[order], LANDINGS[landing], seed, bulk_copies, clusters,
        ctypes.c_int64(shared_bytes), ctypes.c_int64(chunk_bytes), threads, most_blocks,
        host_sees_values, refused, dense,
    )  # fmt: skip
