"""Builds ``csta_fast/_cpu.abi3.so`` and, where there is nvcc, ``csta_fast/_cuda.abi3.so``.

Everything else about the package is in pyproject.toml. The libraries are no Python modules: they
talk to PyTorch through the C functions that ``csrc/shim.h`` and ``csrc/cuda/shim.h`` declare, so
building needs neither torch nor Python nor a GPU, and one wheel serves every version of them.
To find those functions when loaded they must name PyTorch's libraries: they are linked to stubs.

Environment: CXX, CXXFLAGS, LDFLAGS, MAX_JOBS; CSTA_FAST_NATIVE=0 leaves both libraries out.
CSTA_FAST_CUDA=0 leaves the CUDA library out, 1 (or FORCE_CUDA=1) makes its absence an error.
CUDA_HOME says where nvcc is, NVCC_FLAGS what else to tell it, TORCH_CUDA_ARCH_LIST for what GPUs.
"""

from __future__ import annotations

import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py

FLAGS = (
    "-std=c++17 -O3 -fPIC -fvisibility=hidden -fvisibility-inlines-hidden -fno-math-errno "
    "-fno-trapping-math -ffp-contract=fast -Wall -Wextra -Icsrc"
)
# Only these files may use more than the baseline; the library chooses among them when it runs.
# GCC's AVX-512 headers warn of themselves (GCC bug 105593).
X86_FLAGS = {
    "kernels_avx2.cpp": "-mavx2 -mfma -mf16c -mbmi2",
    "kernels_avx512.cpp": "-mavx512f -mavx512vl -mavx512bw -mavx512dq -mavx2 -mfma -mf16c "
    "-Wno-maybe-uninitialized",
}

# PTX of the last serves what comes later. Compute capability 8.0 also serves 8.6 and 8.9.
GPUS = "8.0;9.0;10.0;12.0+PTX"
NVCC_FLAGS = "-std=c++17 -O3 -Icsrc -Xcompiler -fPIC,-fvisibility=hidden"


def find_compiler() -> tuple[list[str], str]:
    """The compiler's command; where there is none, why and what to do."""
    if os.environ.get("CSTA_FAST_NATIVE") == "0":
        return [], "CSTA_FAST_NATIVE=0 is set; unset it to build them"
    if sys.platform not in ("linux", "darwin"):
        return [], f"they are built on Linux and macOS only, this is {sys.platform}"
    wanted = [os.environ["CXX"]] if os.environ.get("CXX") else ["c++", "g++", "clang++"]
    found = [command for command in map(shlex.split, wanted) if shutil.which(command[0])]
    remedy = "xcode-select --install" if sys.platform == "darwin" else "apt-get install g++"
    missing = f"no C++ compiler ({', '.join(wanted)}) was found; get one ({remedy}) and reinstall"
    return (found[0], "") if found else ([], missing)


def find_nvcc() -> tuple[str, str]:
    """nvcc; where there is none, why and what to do. A GPU or its driver is not asked for."""
    wanted = os.environ.get("CSTA_FAST_CUDA") or "auto"
    if wanted not in ("auto", "0", "1"):
        raise SystemExit(f"CSTA_FAST_CUDA: wanted auto, 0 or 1, got {wanted!r}")
    if wanted == "0":
        return "", "CSTA_FAST_CUDA=0 is set; unset it to build them"
    home = os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH")
    nvcc = shutil.which(str(Path(home, "bin", "nvcc")) if home else "nvcc")
    reason = f"no nvcc was found ({home or 'PATH'}); install the CUDA toolkit, or set CUDA_HOME"
    if nvcc is None and (wanted == "1" or os.environ.get("FORCE_CUDA") == "1"):
        raise SystemExit(f"csta_fast: the CUDA kernels are wanted: {reason}")
    return (nvcc, "") if nvcc and COMPILER else ("", reason if COMPILER else REASON)


COMPILER, REASON = find_compiler()
NVCC, REASON_CUDA = find_nvcc()


def run(*command: str) -> None:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    print(shlex.join(command), done.stdout, sep="\n", end="", flush=True)
    if done.returncode:
        raise SystemExit("csta_fast: the native kernels could not be built, the cause is above")


def gpu_options() -> list[str]:
    """What nvcc compiles for: TORCH_CUDA_ARCH_LIST, else those of GPUS that this nvcc knows."""
    chosen = os.environ.get("TORCH_CUDA_ARCH_LIST")
    names = re.split(r"[;,\s]+", (chosen or GPUS).replace(".", "").strip(";, "))
    if not all(re.fullmatch(r"\d+[af]?(\+PTX)?", name) for name in names):
        raise SystemExit(f"TORCH_CUDA_ARCH_LIST: wanted the like of {GPUS!r}, got {chosen!r}")
    if chosen is None:
        known = subprocess.run([NVCC, "--list-gpu-arch"], stdout=subprocess.PIPE, text=True).stdout
        names = [name for name in names if f"compute_{name.removesuffix('+PTX')}" in known.split()]
        names[-1] = names[-1].removesuffix("+PTX") + "+PTX"
    options = []
    for name in names:
        number = name.removesuffix("+PTX")
        code = f"[sm_{number},compute_{number}]" if name.endswith("+PTX") else f"sm_{number}"
        options.append(f"-gencode=arch=compute_{number},code={code}")
    return options


def command_for(source: str) -> list[str]:
    """The command that compiles a source, less its output."""
    if source.endswith(".cu"):
        flags = f"{NVCC_FLAGS} {os.environ.get('NVCC_FLAGS', '')}"
        return [NVCC, "-ccbin", COMPILER[0], *shlex.split(flags), *gpu_options(), "-c", source]
    flags = f"{FLAGS} {X86_FLAGS.get(Path(source).name, '')} {os.environ.get('CXXFLAGS', '')}"
    return [*COMPILER, *shlex.split(flags), "-c", source]


def compile_file(source: str, folder: Path) -> str:
    """Compile, unless the object was made by the same command since source and headers changed."""
    target = folder / (source.replace("/", ".") + ".o")
    command = (*command_for(source), "-o", str(target))
    record, line = target.with_suffix(".command"), shlex.join(command)
    changed = max(file.stat().st_mtime for file in (Path(source), *Path("csrc").rglob("*.h")))
    if not (record.exists() and record.stat().st_mtime > changed and record.read_text() == line):
        record.unlink(missing_ok=True)
        run(*command)
        record.write_text(line)
    return str(target)


def stub(library: str, header: str, folder: Path) -> None:
    """An empty library of PyTorch's, with the functions that a header declares."""
    names = set(re.findall(r"\b((?:aoti_)?torch_\w+)\s*\(", Path(header).read_text()))
    source, target = folder / f"{library}.cpp", folder / f"{library}.so"
    source.write_text("".join(f'extern "C" void {name}() {{}}\n' for name in sorted(names)))
    run(*COMPILER, "-shared", "-fPIC", f"-Wl,-soname,{target.name}", str(source), "-o", str(target))


def link(objects: list[str], result: Path, folder: Path, cuda: bool) -> None:
    output = [*objects, "-o", str(result)]
    options = shlex.split(os.environ.get("LDFLAGS", ""))
    if sys.platform == "darwin":
        run(*COMPILER, "-shared", *output, *options, "-Wl,-undefined,dynamic_lookup")
        return
    stub("libtorch_cpu", "csrc/shim.h", folder)
    needed = [f"-L{folder}", "-ltorch_cpu"]
    if not cuda:
        run(*COMPILER, "-shared", *output, *options, "-Wl,--no-undefined,--no-as-needed", *needed)
        return
    # libtorch.so brings libtorch_cuda.so along where PyTorch has it, and loading fails where not.
    # nvcc knows where its own runtime is, which becomes part of the library.
    stub("libtorch", "csrc/cuda/shim.h", folder)
    hidden = "--no-undefined,--no-as-needed,--exclude-libs,ALL"
    nvcc = [NVCC, "-ccbin", COMPILER[0], "-shared", "-cudart", "static", *gpu_options()]
    run(*nvcc, *output, "-Xlinker", hidden, *needed, "-ltorch")


class BuildLibrary(build_ext):
    def finalize_options(self) -> None:
        super().finalize_options()
        self.inplace = True  # also beside the sources: that is what runs from a checkout import

    def get_ext_filename(self, fullname: str) -> str:
        return fullname.replace(".", "/") + ".abi3.so"

    def build_extension(self, ext: Extension) -> None:
        folder, result = Path("build/native"), Path(self.get_ext_fullpath(ext.name))
        folder.mkdir(parents=True, exist_ok=True)
        result.parent.mkdir(parents=True, exist_ok=True)
        with ThreadPoolExecutor(int(os.environ.get("MAX_JOBS") or os.cpu_count() or 1)) as pool:
            objects = list(pool.map(lambda source: compile_file(source, folder), ext.sources))
        link(objects, result, folder, ext.name.endswith("_cuda"))


class BuildPython(build_py):
    def run(self) -> None:
        super().run()
        for library, tool, kernels, reason in (
            ("_cpu", COMPILER, "native", REASON), ("_cuda", NVCC, "CUDA", REASON_CUDA),
        ):  # fmt: skip
            if not tool:
                Path(f"csta_fast/{library}.abi3.so").unlink(missing_ok=True)  # of an earlier build
                print(f"csta_fast: installing without {kernels} kernels: {reason}", file=sys.stderr)


def sources(*patterns: str) -> list[str]:
    left_out = () if platform.machine() in ("x86_64", "AMD64") else X86_FLAGS
    files = [file for pattern in patterns for file in sorted(Path("csrc").glob(pattern))]
    return [str(file) for file in files if file.name not in left_out]


libraries = [Extension("csta_fast._cpu", sources("*.cpp", "cpu/*.cpp"))] if COMPILER else []
if NVCC:
    libraries.append(Extension("csta_fast._cuda", sources("cuda/*.cpp", "cuda/*.cu")))
setup(
    ext_modules=libraries,
    cmdclass={"build_ext": BuildLibrary, "build_py": BuildPython},
    options={"bdist_wheel": {"py_limited_api": "cp310"}},
)
