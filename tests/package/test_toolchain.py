"""Compilers that a build finds or refuses, and the environment variables that decide."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import budget
import pytest

toolchain = budget.toolchain


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An environment that says nothing about compilers, to change."""
    for name in ("CSTA_FAST_CUDA", "CSTA_FAST_NATIVE", "FORCE_CUDA", "CUDA_HOME", "CUDA_PATH",
                 "CXX", "NVCC_FLAGS", "TORCH_CUDA_ARCH_LIST"):  # fmt: skip
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def _program(path: Path, script: str = "") -> str:
    """Make a program; its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


def test_what_nvcc_compiles_for(tmp_path: Path, bare: pytest.MonkeyPatch) -> None:
    """Under an nvcc that knows 8.0, 9.0 and later ones that nobody asks for."""
    known = "echo compute_75; echo compute_80; echo compute_90; echo compute_110"
    nvcc = toolchain.Tool((_program(tmp_path / "nvcc", known),))

    def options(wanted: str | None) -> list[str]:
        bare.setenv("TORCH_CUDA_ARCH_LIST", wanted or "")
        return [each.removeprefix("-gencode=arch=compute_") for each in toolchain.gpu_options(nvcc)]

    assert options("8.6;9.0a") == ["86,code=sm_86", "90a,code=sm_90a"]
    assert options("9.0+PTX 8.0") == ["90,code=[sm_90,compute_90]", "80,code=sm_80"]
    assert options(None) == ["80,code=sm_80", "90,code=[sm_90,compute_90]"]
    with pytest.raises(SystemExit, match="TORCH_CUDA_ARCH_LIST: wanted the like of"):
        options("Hopper")
    _program(tmp_path / "nvcc", "echo compute_52")
    with pytest.raises(SystemExit, match=r"nvcc: wanted one that knows any of 8\.0;"):
        options(None)


def test_where_nvcc_is_looked_for(tmp_path: Path, bare: pytest.MonkeyPatch) -> None:
    """CUDA_HOME, else PATH, else this environment's packages."""
    compiler = toolchain.Tool(("ccache", "/opt/bin/g++", "-m64"))

    def found() -> Any:
        return toolchain.find_nvcc(compiler)

    bare.setattr("sysconfig.get_path", lambda _: str(tmp_path / "packages"))
    bare.setenv("PATH", str(tmp_path / "path"))
    assert "no nvcc was found (PATH)" in found().missing
    for place in ("packages/nvidia/cu13/bin", "path", "home/bin"):
        nvcc = _program(tmp_path / place / "nvcc")
        if place == "home/bin":
            bare.setenv("CUDA_HOME", str(tmp_path / "home"))
        # ccache is no compiler that nvcc could call for the host.
        assert found() == toolchain.Tool((nvcc, "-ccbin", "/opt/bin/g++"))
    bare.setenv("CUDA_HOME", "/no/such/place")
    assert "no nvcc was found (/no/such/place)" in found().missing


def test_cuda_from_pypi_is_linked(tmp_path: Path) -> None:
    """Its libraries lie in lib, where its nvcc does not look."""
    nvcc = toolchain.Tool((_program(tmp_path / "bin" / "nvcc", "echo compute_80"),))
    assert f"-L{tmp_path / 'lib'}" in toolchain.to_link_cuda("stubs", nvcc)


@pytest.mark.parametrize("wanted", ["CSTA_FAST_CUDA", "FORCE_CUDA"])
def test_a_wanted_library_without_its_compilers_is_an_error(
    wanted: str, bare: pytest.MonkeyPatch
) -> None:
    bare.setenv(wanted, "1")
    bare.setenv("CUDA_HOME", "/no/such/place")
    with pytest.raises(SystemExit, match="the CUDA kernels are wanted: no nvcc was found"):
        toolchain.find_nvcc(toolchain.Tool(("c++",)))
    bare.setenv("PATH", "/no/such/place")
    with pytest.raises(SystemExit, match=r"are wanted: no C\+\+ compiler \(c\+\+, g\+\+, "):
        toolchain.find_nvcc(toolchain.find_compiler())


def test_native_kernels_that_are_wanted(bare: pytest.MonkeyPatch) -> None:
    bare.setenv("PATH", "/no/such/place")
    assert not toolchain.find_compiler().declined
    bare.setenv("CSTA_FAST_NATIVE", "1")
    with pytest.raises(SystemExit, match=r"the native kernels are wanted: no C\+\+ compiler"):
        toolchain.find_compiler()
    bare.setenv("CSTA_FAST_NATIVE", "0")
    assert toolchain.find_compiler().declined
    assert toolchain.find_nvcc(toolchain.find_compiler()).declined
    bare.setenv("CSTA_FAST_NATIVE", "yes")
    with pytest.raises(SystemExit, match="CSTA_FAST_NATIVE: wanted auto, 0 or 1, got 'yes'"):
        toolchain.find_compiler()


def test_a_compiler_that_is_not_there(bare: pytest.MonkeyPatch) -> None:
    bare.setenv("CXX", "no-such-c++ -m64")
    with pytest.raises(SystemExit, match=r"CXX: wanted a C\+\+ compiler, got 'no-such-c\+\+'"):
        toolchain.find_compiler()
    bare.setenv("CSTA_FAST_NATIVE", "0")
    assert toolchain.find_compiler().declined


def test_a_declined_library(bare: pytest.MonkeyPatch) -> None:
    bare.setenv("FORCE_CUDA", "1")
    bare.setenv("CSTA_FAST_CUDA", "0")
    assert "CSTA_FAST_CUDA=0" in toolchain.find_nvcc(toolchain.Tool(("c++",))).missing
    bare.setenv("CSTA_FAST_CUDA", "yes")
    with pytest.raises(SystemExit, match="CSTA_FAST_CUDA: wanted auto, 0 or 1, got 'yes'"):
        toolchain.find_nvcc(toolchain.Tool(("c++",)))
