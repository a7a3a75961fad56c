"""The package as it is installed: built without torch, with and without a compiler.

Builds need the network (for setuptools) and up to a minute each, so they are marked slow.
"""

from __future__ import annotations

import os
import re
import runpy
import shutil
import subprocess
import sys
import venv
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
import torch

import csta_fast

ROOT = Path(__file__).resolve().parents[2]
LIBRARY, CUDA_LIBRARY = "csta_fast/_cpu.abi3.so", "csta_fast/_cuda.abi3.so"
WITHOUT = "csta_fast: installing without native kernels: "
EVALUATE = """
import torch, csta_fast, csta_fast.kernels
layer, x = csta_fast.CSTA(4), torch.randn(2, 4, 5, 3)
assert torch.allclose(layer(x), x, atol=1e-5)
layer(x).sum().backward()
print(csta_fast.__file__)
print(csta_fast.kernels.__file__)
print(csta_fast.explain(x))
"""

needs_uv = pytest.mark.skipif(shutil.which("uv") is None, reason="uv is not installed")
needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="reads ELF files")


def run(*command: object, folder: Path | None = None, **environment: str) -> str:
    """Run a program, in a folder, that finds no packages but installed ones; what it printed."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=folder,
        env={**os.environ, "TRITON_INTERPRET": "0", "PYTHONPATH": "", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def pip(*arguments: object, **environment: str) -> str:
    return run(sys.executable, "-m", "pip", "-v", *arguments, **environment)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the sources, to build in; objects that are up to date come along."""

    def left_out(folder: str, names: list[str]) -> set[str]:
        wanted = {"native"} if Path(folder) == ROOT / "build" else set(names)
        dropped = {"dist", "__pycache__"} | {name for name in names if name.endswith(".so")}
        hidden = {name for name in names if name.startswith(".")}
        return (set(names) - wanted) | (set(names) & (dropped | hidden))

    copy = tmp_path_factory.mktemp("checkout") / "csta_fast"
    shutil.copytree(ROOT, copy, ignore=left_out)
    return copy


@pytest.fixture(scope="module")
def wheel(checkout: Path) -> tuple[Path, str]:
    """A wheel built as pip does by default, and pip's report."""
    log = pip("wheel", "--no-deps", "--wheel-dir", checkout.parent / "wheels", checkout)
    (path,) = (checkout.parent / "wheels").iterdir()
    return path, log


@pytest.fixture
def python(tmp_path: Path) -> Path:
    """An environment with everything that this one has, except csta_fast."""
    (tmp_path / "packages").mkdir()
    for entry in Path(torch.__file__).parents[1].iterdir():
        if "csta_fast" not in entry.name and entry.suffix != ".pth":
            (tmp_path / "packages" / entry.name).symlink_to(entry)
    venv.create(tmp_path / "venv")
    executable = tmp_path / "venv" / "bin" / "python"
    site = run(executable, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip()
    (Path(site) / "packages.pth").write_text(str(tmp_path / "packages"))
    return executable


def evaluate(python: Path, folder: Path, **environment: str) -> tuple[Path, Path, list[str]]:
    """Compute with the package that python has: where it is, its kernels, and what serves.

    Python starts in an empty folder, for it finds packages in the one where it starts.
    """
    (folder / "empty").mkdir()
    printed = run(python, "-c", EVALUATE, folder=folder / "empty", **environment)
    package, kernels, *lines = printed.splitlines()
    return Path(package).parent, Path(kernels).parent, lines


@pytest.mark.slow
def test_wheel_contents(wheel: tuple[Path, str]) -> None:
    path, _ = wheel
    assert re.fullmatch(rf"csta_fast-{csta_fast.__version__}-cp310-abi3-\w+\.whl", path.name)
    with zipfile.ZipFile(path) as archive:
        names = set(archive.namelist())
    package = ROOT / "csta_fast"
    files = [*package.rglob("*.py"), *package.rglob("*.txt"), package / "py.typed"]
    assert names >= {file.relative_to(ROOT).as_posix() for file in files}
    assert names >= {LIBRARY, "csta_fast/kernels/__init__.py"}
    assert any(name.endswith("/LICENSE") for name in names)
    assert {name.split("/")[0] for name in names} == {
        "csta_fast",
        f"csta_fast-{csta_fast.__version__}.dist-info",
    }
    libraries = {name for name in names if name.endswith(".so")}
    toolchain = runpy.run_path(str(ROOT / "csrc" / "toolchain.py"))
    nvcc = toolchain["find_nvcc"](toolchain["find_compiler"]())
    assert libraries == ({LIBRARY, CUDA_LIBRARY} if nvcc.command else {LIBRARY})


@pytest.mark.slow
def test_build_environment_holds_no_torch(wheel: tuple[Path, str]) -> None:
    _, log = wheel
    installed = re.findall(r"Installing collected packages: (.*)", log)
    assert installed == ["setuptools"]
    assert not re.search(r"(Collecting|Downloading|Using cached).*torch", log)


@needs_linux
@pytest.mark.slow
def test_library_needs_only_the_shim(wheel: tuple[Path, str], tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel[0]) as archive:
        path = archive.extract(LIBRARY, tmp_path)
    declared = set(re.findall(r"\b\w*torch_\w+(?=\()", (ROOT / "csrc" / "shim.h").read_text()))
    symbols = [line.split()[-2:] for line in run("nm", "-D", "-u", path).splitlines()]
    strong = {name for kind, name in symbols if kind == "U"}
    unversioned = {name for name in strong if "@" not in name}
    assert unversioned <= declared
    assert {"torch_parallel_for", "torch_library_impl"} <= unversioned
    versions = {name.rpartition("@")[2].rpartition("_")[0] for name in strong - unversioned}
    assert versions <= {"GLIBC", "GLIBCXX", "CXXABI", "GCC"}
    needed = re.findall(r"NEEDED.*\[(.*)\]", run("readelf", "-d", path))
    assert "libtorch_cpu.so" in needed
    assert not [name for name in needed if "python" in name or "c10" in name]


@pytest.mark.slow
def test_wheel_serves(wheel: tuple[Path, str], python: Path, tmp_path: Path) -> None:
    pip("--python", python, "install", "--no-deps", wheel[0])
    package, kernels, explanation = evaluate(python, tmp_path)
    assert package.is_relative_to(tmp_path / "venv")
    assert kernels == package / "kernels"
    assert explanation[0].startswith("-> cpu")


@pytest.mark.slow
def test_editable(checkout: Path, python: Path, tmp_path: Path) -> None:
    pip("--python", python, "install", "--no-deps", "--editable", checkout)
    package, kernels, explanation = evaluate(python, tmp_path)
    assert (package, kernels) == (checkout / "csta_fast", checkout / "kernels")
    assert explanation[0].startswith("-> cpu")


@needs_uv
@pytest.mark.slow
def test_source_archive_and_uv(checkout: Path, python: Path, tmp_path: Path) -> None:
    run("uv", "build", "--sdist", "--out-dir", tmp_path / "dist", checkout)
    (archive,) = (tmp_path / "dist").glob("*.tar.gz")
    shutil.unpack_archive(archive, tmp_path)
    unpacked = tmp_path / f"csta_fast-{csta_fast.__version__}"
    paths = [path.relative_to(ROOT) for path in (ROOT / "csrc").rglob("*.*")]
    sources = {path for path in paths if "__pycache__" not in path.parts}
    assert Path("csrc/toolchain.py") in sources
    assert all((unpacked / source).is_file() for source in sources)
    assert not list(unpacked.rglob("__pycache__"))
    assert not list(unpacked.rglob("*.so"))
    # Neither optimised nor cached: only whether it builds is asked here, and from nothing.
    flags = {"CXXFLAGS": "-O0", "CSTA_FAST_CUDA": "0", "UV_CACHE_DIR": str(tmp_path / "cache")}
    log = run("uv", "-v", "pip", "install", "--no-deps", "--python", python, archive, **flags)
    assert not re.search(r"torch[-=]", log)
    package, _, explanation = evaluate(python, tmp_path)
    assert package.is_relative_to(tmp_path / "venv")
    assert explanation[0].startswith("-> cpu")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("environment", "reason"),
    [({"PATH": "/no/such/place"}, "no C++ compiler (c++, g++, clang++)"),
     ({"CSTA_FAST_NATIVE": "0"}, "CSTA_FAST_NATIVE=0")],
    ids=["missing", "declined"],
)  # fmt: skip
def test_without_compiler(
    checkout: Path, python: Path, tmp_path: Path, environment: dict[str, str], reason: str
) -> None:
    log = pip("--python", python, "install", "--no-deps", checkout, **environment)
    (line,) = (line.strip() for line in log.splitlines() if WITHOUT in line)
    assert line.startswith(WITHOUT + reason)
    package, _, explanation = evaluate(python, tmp_path, PYTHONWARNINGS="ignore")
    assert package.is_relative_to(tmp_path / "venv")
    assert not list(package.glob("*.so"))
    assert f"was not built: {reason}" in explanation[0]
    said = run(python, "-c", EVALUATE, folder=tmp_path / "empty")
    assert ("csta_fast: plain PyTorch serves" in said) != ("CSTA_FAST_NATIVE" in environment)
    assert explanation[-1].startswith("-> reference")


@pytest.mark.slow
def test_misspelt_compiler_is_an_error(checkout: Path) -> None:
    with pytest.raises(AssertionError, match=r"CXX: wanted a C\+\+ compiler, got 'no-such-c\+\+'"):
        pip("wheel", "--no-deps", "--wheel-dir", checkout.parent, checkout, CXX="no-such-c++")


@pytest.mark.slow
def test_failing_compiler_is_an_error(checkout: Path) -> None:
    with pytest.raises(AssertionError, match="native kernels could not be built"):
        pip("wheel", "--no-deps", "--wheel-dir", checkout.parent, checkout, CXX="false")


def test_only_what_includes_an_edited_header_is_compiled_again(tmp_path: Path) -> None:
    pytest.importorskip("setuptools")
    sources = tmp_path / "csrc"
    for folder in (sources, tmp_path / "csta_fast"):
        folder.mkdir()
    for name in ("setup.py", "csrc/toolchain.py", "csrc/shim.h"):
        shutil.copy(ROOT / name, tmp_path / name)
    for name in ("one", "other"):
        (sources / f"{name}.h").write_text(f"int {name}();\n")
        (sources / f"{name}.cpp").write_text(f'#include "{name}.h"\n')

    def compiled(compiler: str = "c++") -> list[str]:
        command = (sys.executable, "setup.py", "build_ext", "--inplace")
        log = run(*command, folder=tmp_path, CSTA_FAST_CUDA="0", CXXFLAGS="", CXX=compiler)
        return sorted(re.findall(r"-c csrc/(\w+)\.cpp", log))

    assert compiled() == ["one", "other"]
    assert compiled() == []
    (sources / "one.h").touch()
    assert compiled() == ["one"]
    (sources / "new.h").touch()
    assert compiled() == []
    # An edit in the middle of a compilation may have come too late for it.
    editing = tmp_path / "editing"
    editing.write_text('#!/bin/sh\nc++ "$@" && touch csrc/other.h\n')
    editing.chmod(0o755)
    assert compiled(str(editing)) == ["one", "other"]
    assert compiled(str(editing)) == ["other"]


def test_setup_is_short() -> None:
    """What a build does can be read in one go; pyproject.toml says all that is no doing."""
    assert len((ROOT / "setup.py").read_text().splitlines()) < 120


def test_version() -> None:
    assert metadata.version("csta_fast") == csta_fast.__version__
