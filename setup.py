"""Builds ``csta_fast/_cpu.abi3.so`` and, where there is nvcc, ``csta_fast/_cuda.abi3.so``.

Everything else about the package is in pyproject.toml. The libraries are no Python modules: they
talk to PyTorch through the C functions that ``csrc/shim.h`` and ``csrc/cuda/shim.h`` declare, so
building needs neither torch nor Python nor a GPU, and one wheel serves every version of them.
To find those functions when loaded they must name PyTorch's libraries: they are linked to stubs.

Environment: CXX, CXXFLAGS, LDFLAGS, MAX_JOBS. CSTA_FAST_NATIVE=0 leaves both libraries out, 1 makes
the absence of the first an error.
CSTA_FAST_CUDA=0 leaves the CUDA library out, 1 (or FORCE_CUDA=1) makes its absence an error.
CUDA_HOME says where nvcc is, NVCC_FLAGS what else to tell it, TORCH_CUDA_ARCH_LIST for what GPUs.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py

sys.path.insert(0, str(Path(__file__).parent))  # a build's front end does not see to it
from csrc import toolchain

COMPILER = toolchain.find_compiler()
NVCC = toolchain.find_nvcc(COMPILER)


def run(*command: str) -> None:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    print(shlex.join(command), done.stdout, sep="\n", end="", flush=True)
    if done.returncode:
        raise SystemExit("csta_fast: the native kernels could not be built, the cause is above")


def compile_file(source: str, folder: Path) -> str:
    """Compile, unless the object is what this command would make again."""
    target = folder / (source.replace("/", ".") + ".o")
    record, dependencies = target.with_suffix(".command"), target.with_suffix(".d")
    command = [*toolchain.to_compile(source, COMPILER, NVCC), "-MMD", "-MF", str(dependencies)]
    command += ["-o", str(target)]
    if not toolchain.is_current(record, shlex.join(command), dependencies):
        record.unlink(missing_ok=True)
        begin = time.time()
        run(*command)
        record.write_text(shlex.join(command))
        os.utime(record, (begin, begin))  # a file edited during the compilation is newer
    return str(target)


def make_stub(library: str, header: str, folder: Path) -> None:
    """An empty library of PyTorch's, with the functions that a header declares."""
    names = set(re.findall(r"\b((?:aoti_)?torch_\w+)\s*\(", Path(header).read_text()))
    source, target = folder / f"{library}.cpp", folder / f"{library}.so"
    source.write_text("".join(f'extern "C" void {name}() {{}}\n' for name in sorted(names)))
    options = ["-shared", "-fPIC", f"-Wl,-soname,{target.name}"]
    run(*COMPILER.command, *options, str(source), "-o", str(target))


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
        if sys.platform != "darwin":
            make_stub("libtorch_cpu", "csrc/shim.h", folder)
        if ext.name.endswith("_cuda"):
            make_stub("libtorch", "csrc/cuda/shim.h", folder)
            command = toolchain.to_link_cuda(str(folder), NVCC)
        else:
            command = toolchain.to_link(str(folder), COMPILER)
        run(*command, *objects, "-o", str(result))


class BuildPython(build_py):
    def run(self) -> None:
        """Say why a library is left out, here and, in a file beside it, to those who miss it."""
        super().run()
        folders = ["csta_fast", *([] if self.editable_mode else [f"{self.build_lib}/csta_fast"])]
        for library, lack, tool in (("_cpu", "native", COMPILER), ("_cuda", "CUDA", NVCC)):
            for place in (Path(folder, library) for folder in folders):
                for ending in (".missing", ".declined"):  # of an earlier build
                    place.with_suffix(ending).unlink(missing_ok=True)
                if tool.missing:
                    place.with_suffix(".abi3.so").unlink(missing_ok=True)
                    ending = ".declined" if tool.declined else ".missing"
                    place.with_suffix(ending).write_text(tool.missing + "\n", encoding="utf-8")
            if tool.missing:
                lack = f"installing without {lack} kernels: {tool.missing}"
                print("csta_fast:", lack, file=sys.stderr)


sources, libraries = toolchain.sources, []
if COMPILER.command:
    libraries.append(Extension("csta_fast._cpu", sources("*.cpp", "cpu/**/*.cpp")))
if NVCC.command:
    libraries.append(Extension("csta_fast._cuda", sources("cuda/**/*.cpp", "cuda/**/*.cu")))
setup(
    ext_modules=libraries,
    cmdclass={"build_ext": BuildLibrary, "build_py": BuildPython},
    options={"bdist_wheel": {"py_limited_api": "cp310"}},
)
