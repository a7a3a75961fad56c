"""The compilers, where there are any, and the commands that they are given; for ``setup.py``.

Nothing is run but nvcc, to say which GPUs it knows. Whether this machine has one is not asked.
"""

from __future__ import annotations

import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import NamedTuple

FLAGS = (
    "-std=c++17 -O3 -fPIC -fvisibility=hidden -fvisibility-inlines-hidden -fno-math-errno "
    "-fno-trapping-math -ffp-contract=fast -Wall -Wextra -Icsrc"
)
#: Only files of these names' ends may use more than the baseline; the library chooses among them
#: when it runs.
#: GCC's AVX-512 headers warn of themselves (GCC bug 105593).
X86_FLAGS = {
    "avx2": "-mavx2 -mfma -mf16c -mbmi2",
    "avx512": "-mavx512f -mavx512vl -mavx512bw -mavx512dq -mavx2 -mfma -mf16c "
    "-Wno-maybe-uninitialized",
}
NVCC_FLAGS = "-std=c++17 -O3 -Icsrc -Xcompiler -fPIC,-fvisibility=hidden"
#: PTX of the last serves what comes later. Compute capability 8.0 also serves 8.6 and 8.9.
GPUS = "8.0;9.0;10.0;12.0+PTX"

_LAUNCHERS = ("ccache", "sccache", "distcc")


class Tool(NamedTuple):
    """How a compiler is called; where there is none, why, and what to do."""

    command: tuple[str, ...]
    missing: str = ""
    declined: bool = False  # whether that is what the environment asks for


def _wanted(variable: str) -> str:
    wanted = os.environ.get(variable) or "auto"
    if wanted not in ("auto", "0", "1"):
        raise SystemExit(f"{variable}: wanted auto, 0 or 1, got {wanted!r}")
    return wanted


def find_compiler() -> Tool:
    """The C++ compiler: CXX, or the first of the usual names."""
    wanted = _wanted("CSTA_FAST_NATIVE")
    if wanted == "0":
        return Tool((), "CSTA_FAST_NATIVE=0 was set; build without it to have them", declined=True)
    compiler = _any_compiler()
    if wanted == "1" and compiler.missing:
        raise SystemExit(f"csta_fast: the native kernels are wanted: {compiler.missing}")
    return compiler


def _any_compiler() -> Tool:
    if sys.platform not in ("linux", "darwin"):
        return Tool((), f"they are built on Linux and macOS only, this is {sys.platform}")
    chosen = shlex.split(os.environ.get("CXX", ""))
    if chosen and not shutil.which(chosen[0]):
        raise SystemExit(f"CXX: wanted a C++ compiler, got {chosen[0]!r}, which was not found")
    names = ["c++", "g++", "clang++"]
    for command in [chosen] if chosen else [[name] for name in names]:
        if shutil.which(command[0]):
            return Tool(tuple(command))
    remedy = "xcode-select --install" if sys.platform == "darwin" else "apt-get install g++"
    missing = f"no C++ compiler ({', '.join(names)}) was found; get one ({remedy}) and reinstall"
    return Tool((), missing)


def find_nvcc(compiler: Tool) -> Tool:
    """nvcc with its host compiler: below CUDA_HOME, on PATH, or from PyPI in this environment."""
    wanted = _wanted("CSTA_FAST_CUDA")
    if wanted == "0":
        return Tool((), "CSTA_FAST_CUDA=0 was set; build without it to have them", declined=True)
    home = os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH")
    installed = Path(sysconfig.get_path("purelib"), "nvidia").glob("cu*/bin/nvcc")
    places = [str(Path(home, "bin", "nvcc"))] if home else ["nvcc", *map(str, sorted(installed))]
    nvcc = next(filter(None, map(shutil.which, places)), None)
    if nvcc and compiler.command:
        host = next(word for word in compiler.command if Path(word).name not in _LAUNCHERS)
        return Tool((nvcc, "-ccbin", host))
    missing = compiler.missing or (
        f"no nvcc was found ({home or 'PATH'}); install the CUDA toolkit, or set CUDA_HOME, or "
        "pip install 'cuda-toolkit[nvcc,cccl]==13.0.*'"
    )
    if wanted == "1" or os.environ.get("FORCE_CUDA") == "1":
        raise SystemExit(f"csta_fast: the CUDA kernels are wanted: {missing}")
    return Tool((), missing, compiler.declined)


def gpu_options(nvcc: Tool) -> list[str]:
    """What nvcc compiles for: TORCH_CUDA_ARCH_LIST, else those of GPUS that this nvcc knows."""
    chosen = os.environ.get("TORCH_CUDA_ARCH_LIST")
    names = re.split(r"[;,\s]+", (chosen or GPUS).replace(".", "").strip(";, "))
    if not all(re.fullmatch(r"\d+[af]?(\+PTX)?", name) for name in names):
        raise SystemExit(f"TORCH_CUDA_ARCH_LIST: wanted the like of {GPUS!r}, got {chosen!r}")
    if not chosen:
        question = [nvcc.command[0], "--list-gpu-arch"]
        known = subprocess.run(question, stdout=subprocess.PIPE, text=True).stdout.split()
        names = [name for name in names if f"compute_{name.removesuffix('+PTX')}" in known]
        if not names:
            raise SystemExit(f"{nvcc.command[0]}: wanted one that knows any of {GPUS}; update it, "
                             "or set CSTA_FAST_CUDA=0")  # fmt: skip
        names[-1] = names[-1].removesuffix("+PTX") + "+PTX"
    return [f"-gencode=arch=compute_{number},code={code}" for number, code in map(_code, names)]


def _code(name: str) -> tuple[str, str]:
    """Of "90" or "90+PTX": the number, and what is kept of its compilation."""
    number = name.removesuffix("+PTX")
    return number, f"sm_{number}" if number == name else f"[sm_{number},compute_{number}]"


def sources(*patterns: str) -> list[str]:
    """The files of csrc that a library is made of and this kind of processor can run."""
    files = [file for pattern in patterns for file in sorted(Path("csrc").glob(pattern))]
    if platform.machine() not in ("x86_64", "AMD64"):
        files = [file for file in files if _instruction_set(file) not in X86_FLAGS]
    return [str(file) for file in files]


def _instruction_set(source: Path) -> str:
    """What the name of a kernels' file ends in; of another file, any word."""
    return source.stem.rpartition("_")[2]


def to_compile(source: str, compiler: Tool, nvcc: Tool) -> list[str]:
    """The command that compiles a source, less its output."""
    if source.endswith(".cu"):
        flags = shlex.split(f"{NVCC_FLAGS} {os.environ.get('NVCC_FLAGS', '')}")
        return [*nvcc.command, *flags, *gpu_options(nvcc), "-c", source]
    further = X86_FLAGS.get(_instruction_set(Path(source)), "")
    flags = shlex.split(f"{FLAGS} {further} {os.environ.get('CXXFLAGS', '')}")
    return [*compiler.command, *flags, "-c", source]


def is_current(record: Path, command: str, dependencies: Path) -> bool:
    """Whether the object was made by this command from files that have not changed since."""
    if not (record.exists() and dependencies.exists() and record.read_text() == command):
        return False
    _, _, names = dependencies.read_text().replace("\\\n", " ").partition(":")
    files, made = [Path(name) for name in shlex.split(names)], record.stat().st_mtime
    return all(file.exists() and file.stat().st_mtime < made for file in files)


def to_link(stubs: str, compiler: Tool) -> list[str]:
    """The command that links the CPU library, less objects and output; stubs lie in a folder."""
    options = shlex.split(os.environ.get("LDFLAGS", ""))
    if sys.platform == "darwin":
        needed = ["-Wl,-undefined,dynamic_lookup"]
    else:
        needed = ["-Wl,--no-undefined,--no-as-needed", f"-L{stubs}", "-ltorch_cpu"]
    return [*compiler.command, "-shared", *options, *needed]


def to_link_cuda(stubs: str, nvcc: Tool) -> list[str]:
    """The command that links the CUDA library, less objects and output.

    libtorch.so brings libtorch_cuda.so along where PyTorch has it, and loading fails where not.
    CUDA's runtime becomes part of the library. nvcc knows where that is, except when it is from
    PyPI: there the folder is called lib, not lib64.
    """
    hidden = "--no-undefined,--no-as-needed,--exclude-libs,ALL"
    beside = f"-L{Path(nvcc.command[0]).parents[1] / 'lib'}"
    needed = [f"-L{stubs}", "-ltorch_cpu", "-ltorch"]
    return [*nvcc.command, "-shared", "-cudart", "static", *gpu_options(nvcc), beside,
            "-Xlinker", hidden, *needed]  # fmt: skip
