"""Builds ``csta_fast/_cpu.abi3.so``; everything else about the package is in pyproject.toml.

The library is no Python module: it talks to PyTorch through the C functions that ``csrc/shim.h``
declares, so it needs neither torch nor Python to build and one wheel serves every version of both.
To find those functions when loaded it must name ``libtorch_cpu.so``: it is linked to a stub of it.

Environment: CXX, CXXFLAGS, LDFLAGS, MAX_JOBS; CSTA_FAST_NATIVE=0 leaves the library out.
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


COMPILER, REASON = find_compiler()


def run(*command: str) -> None:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    print(shlex.join(command), done.stdout, sep="\n", end="", flush=True)
    if done.returncode:
        raise SystemExit("csta_fast: the native kernels could not be built, the cause is above")


def compile_file(source: str, folder: Path) -> str:
    """Compile, unless the object was made by the same command since source and headers changed."""
    flags = f"{FLAGS} {X86_FLAGS.get(Path(source).name, '')} {os.environ.get('CXXFLAGS', '')}"
    target = folder / (source.replace("/", ".") + ".o")
    command = (*COMPILER, *shlex.split(flags), "-c", source, "-o", str(target))
    record, line = target.with_suffix(".command"), shlex.join(command)
    changed = max(file.stat().st_mtime for file in (Path(source), *Path("csrc").rglob("*.h")))
    if not (record.exists() and record.stat().st_mtime > changed and record.read_text() == line):
        record.unlink(missing_ok=True)
        run(*command)
        record.write_text(line)
    return str(target)


def torch_options(folder: Path) -> list[str]:
    """Make an empty libtorch_cpu.so with the functions of shim.h; the options to link it."""
    if sys.platform == "darwin":
        return ["-Wl,-undefined,dynamic_lookup"]
    names = set(re.findall(r"\b((?:aoti_)?torch_\w+)\s*\(", Path("csrc/shim.h").read_text()))
    source, stub = folder / "stub.cpp", folder / "libtorch_cpu.so"
    source.write_text("".join(f'extern "C" void {name}() {{}}\n' for name in sorted(names)))
    run(*COMPILER, "-shared", "-fPIC", f"-Wl,-soname,{stub.name}", str(source), "-o", str(stub))
    return [f"-L{folder}", "-Wl,--no-undefined,--no-as-needed", "-ltorch_cpu"]


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
        options = shlex.split(os.environ.get("LDFLAGS", "")) + torch_options(folder)
        run(*COMPILER, "-shared", *objects, "-o", str(result), *options)


class BuildPython(build_py):
    def run(self) -> None:
        super().run()
        if not COMPILER:
            Path("csta_fast/_cpu.abi3.so").unlink(missing_ok=True)  # of an earlier build
            print(f"csta_fast: installing without native kernels: {REASON}", file=sys.stderr)


left_out = () if platform.machine() in ("x86_64", "AMD64") else X86_FLAGS
files = (*Path("csrc").glob("*.cpp"), *Path("csrc/cpu").glob("*.cpp"))
sources = [str(file) for file in sorted(files) if file.name not in left_out]
setup(
    ext_modules=[Extension("csta_fast._cpu", sources)] if COMPILER else [],
    cmdclass={"build_ext": BuildLibrary, "build_py": BuildPython},
    options={"bdist_wheel": {"py_limited_api": "cp310"}},
)
