"""Which backend serves a call, who may force one, and what explain says about it."""

from __future__ import annotations

import warnings
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from subprocess_python import run_python

import csta_fast
from csta_fast import CSTA, backends, explain, functional
from csta_fast.backends import cpu as cpu_backend
from csta_fast.backends import cuda as cuda_backend
from csta_fast.backends import fallback
from csta_fast.backends import triton as triton_backend

X = torch.zeros(2, 6, 7, 5)


def _marks(text: str) -> dict[str, str]:
    """Each line of an explanation by its backend's name."""
    return {line[3:].split()[0]: line for line in text.splitlines()}


@pytest.mark.usefixtures("native")
def test_native_comes_first_on_a_cpu() -> None:
    lines = _marks(explain(X))
    assert lines["cpu"].startswith("-> cpu")
    assert lines["reference"].startswith("   reference")
    assert "could, but 'cpu' comes first" in lines["reference"]
    assert backends.select(X, None).name == "cpu"


def test_explain_follows_a_forced_backend() -> None:
    lines = _marks(explain(X, backend="reference"))
    assert lines["reference"].startswith("-> reference")
    assert "plain PyTorch" in lines["reference"]
    if cpu_backend.unavailable is None:
        assert lines["cpu"].startswith("   cpu")
        assert "backend 'reference' is forced" in lines["cpu"]


def test_explain_says_why_a_device_is_refused() -> None:
    lines = _marks(explain(X.to("meta")))
    assert lines["cpu"].startswith("   cpu")
    assert (
        "serves CPU tensors, x is on meta" in lines["cpu"]
        or cpu_backend.unavailable in lines["cpu"]
    )
    assert lines["reference"].startswith("-> reference")


def test_explain_says_why_a_dtype_is_refused() -> None:
    for line in explain(X.int()).splitlines():
        assert not line.startswith("->")
        assert "does not compute in torch.int32" in line or cpu_backend.unavailable is not None


def test_explain_of_an_unknown_backend() -> None:
    with pytest.raises(
        ValueError, match="backend: wanted one of cpu, cuda, triton, reference, got 'gpu'"
    ):
        explain(X, backend="gpu")


def test_explain_of_no_tensor() -> None:
    with pytest.raises(TypeError, match="x: wanted a tensor, got list"):
        explain([1.0])


def test_explain_runs_nothing() -> None:
    assert explain(torch.empty(10**6, 64, 64, 25, device="meta"))


def test_a_forced_backend_that_cannot_serve_is_an_error() -> None:
    x = X.to("meta")
    with pytest.raises(ValueError, match="backend 'cpu' cannot serve this call: "):
        functional.pool(x, backend="cpu")
    with pytest.raises(ValueError, match="backend 'cpu' cannot serve this call: "):
        CSTA(6, backend="cpu").to("meta")(x)


def test_the_reference_serves_other_devices() -> None:
    frame_means, joint_means = functional.pool(X.to("meta"))
    assert (frame_means.shape, joint_means.shape) == ((2, 6, 7), (2, 6, 5))
    assert frame_means.device.type == joint_means.device.type == "meta"
    assert CSTA(6).to("meta")(X.to("meta")).shape == X.shape  # autocast knows no such device


def test_what_no_backend_serves_is_refused_as_anywhere() -> None:
    with pytest.raises(TypeError, match=r"x: wanted float64, .* got torch\.int32"):
        functional.pool(X.int().to("meta"))


def test_absent_library_is_a_reason_not_a_crash() -> None:
    code = """
import pathlib
exists = pathlib.Path.exists
pathlib.Path.exists = lambda path: path.name != "_cpu.abi3.so" and exists(path)
import torch, csta_fast
x = torch.randn(2, 6, 7, 5)
assert csta_fast.backends.cpu.instruction_set() == "none"
assert csta_fast.CSTA(6)(x).shape == x.shape
print(csta_fast.explain(x))
csta_fast.CSTA(6, backend="cpu")(x)
"""
    process = run_python(code, TRITON_INTERPRET="0")
    assert "the native library was not built" in process.stdout
    assert "-> reference" in process.stdout
    assert "ValueError: backend 'cpu' cannot serve this call: the native" in process.stderr


_WITHOUT_LIBRARY = """
import pathlib, warnings
exists = pathlib.Path.exists
pathlib.Path.exists = lambda path: path.name != "_cpu.abi3.so" and exists(path)
import torch, csta_fast
from csta_fast.backends import cpu as cpu_backend
layer, x = csta_fast.CSTA(6), torch.randn(2, 6, 7, 5)
def warned(call):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    return [str(each.message) for each in caught if "csta_fast" in str(each.message)]
"""


@pytest.mark.parametrize(
    "first_call",
    [
        "layer(x)",
        "torch.compile(layer, fullgraph=True, backend='eager')(x)",
        "torch.export.export(layer, (x,))",
        "csta_fast.functional.pool(x)",
    ],
)
def test_absent_library_is_told_once(first_call: str) -> None:
    code = f"""{_WITHOUT_LIBRARY}
assert not warned(lambda: csta_fast.functional.pool(x.to("meta")))
assert not warned(lambda: csta_fast.functional.pool(x, backend="reference"))
(message,) = warned(lambda: {first_call})
assert cpu_backend.unavailable in message and "CSTA_FAST_BACKEND=reference" in message, message
assert not warned(lambda: (layer(x), csta_fast.functional.pool(x)))
print("told")
"""
    process = run_python(code, TRITON_INTERPRET="0")
    assert process.stdout.strip() == "told", process.stderr[-2000:]


@pytest.mark.parametrize(
    "how", ["cpu_backend.declined = True", "", "warnings.simplefilter('error')"]
)
def test_a_choice_is_not_warned_of(how: str) -> None:
    environment = {} if "declined" in how else {"CSTA_FAST_BACKEND": "reference"}
    code = f"{_WITHOUT_LIBRARY}\n{how}\nassert not warned(lambda: layer(x))\nprint('quiet')"
    process = run_python(code, TRITON_INTERPRET="0", **environment)
    assert process.stdout.strip() == "quiet", process.stderr[-2000:]


def test_the_filter_that_the_warning_names_silences_it() -> None:
    code = f"""{_WITHOUT_LIBRARY}
warnings.filterwarnings("error")
warnings.filterwarnings("ignore", "csta_fast: plain PyTorch")
layer(x)
print("quiet")
"""
    process = run_python(code, TRITON_INTERPRET="0")
    assert process.stdout.strip() == "quiet", process.stderr[-2000:]


def test_a_missing_cuda_library_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    class OnGpu:
        dtype, device, is_cpu = torch.float32, torch.device("cuda", 0), False

    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(cuda_backend, "unavailable", "no nvcc")
    monkeypatch.setattr(triton_backend, "unavailable", "no Triton")
    monkeypatch.setattr(fallback, "_warned", False)
    x: Any = OnGpu()
    with pytest.warns(UserWarning, match="no nvcc; nor does Triton serve: no Triton"):
        fallback.tell(x)
    monkeypatch.setattr(fallback, "_warned", False)
    monkeypatch.setattr(cuda_backend, "declined", True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fallback.tell(x)


def test_import_from_an_archive_says_so(tmp_path: Path) -> None:
    package = Path(csta_fast.__file__).parent
    with zipfile.ZipFile(tmp_path / "csta.zip", "w") as archive:
        for file in package.rglob("*.py"):
            archive.write(file, f"csta_fast/{file.relative_to(package)}")
        for file in (package.parent / "kernels").glob("*.py"):
            archive.write(file, f"csta_fast/kernels/{file.name}")
    code = f"""
import sys
sys.path.insert(0, {str(tmp_path / "csta.zip")!r})
import csta_fast
assert ".zip" in csta_fast.__file__
print(csta_fast.backends.cpu.unavailable)
"""
    process = run_python(code, TRITON_INTERPRET="0")
    assert "cannot be loaded out of an archive" in process.stdout, process.stderr[-2000:]
    assert "csta.zip" in process.stdout


_SERVED = """
import torch, csta_fast
from csta_fast import backends
print(backends.select(torch.zeros(2, 6, 7, 5), None).name)
print(csta_fast.explain(torch.zeros(2, 6, 7, 5)))
csta_fast.CSTA(6)(torch.zeros(2, 6, 7, 5))
"""


@pytest.mark.parametrize("name", ["reference", ""])
def test_environment_variable_forces_a_backend(name: str) -> None:
    process = run_python(_SERVED, CSTA_FAST_BACKEND=name)
    assert process.returncode == 0, process.stderr
    native = "cpu" if cpu_backend.unavailable is None else "reference"
    assert process.stdout.splitlines()[0] == (name or native)
    assert f"-> {name or native}" in process.stdout


def test_unknown_backend_in_the_environment() -> None:
    process = run_python(_SERVED, CSTA_FAST_BACKEND="gpu")
    assert process.returncode != 0
    assert (
        "CSTA_FAST_BACKEND: wanted one of cpu, cuda, triton, reference, got 'gpu'" in process.stderr
    )


def test_backend_argument_wins_over_the_environment() -> None:
    code = _SERVED + "print(backends.select(torch.zeros(2, 6, 7, 5), 'reference').name)"
    if cpu_backend.unavailable is None:
        assert run_python(code, CSTA_FAST_BACKEND="cpu").stdout.splitlines()[-1] == "reference"


@pytest.mark.usefixtures("native")
def test_environment_variable_is_read_once() -> None:
    code = """
import os, torch, csta_fast
from csta_fast import backends
os.environ["CSTA_FAST_BACKEND"] = "reference"
print(backends.select(torch.zeros(2, 6, 7, 5), None).name)
"""
    assert run_python(code).stdout.strip() == "cpu"


@pytest.mark.usefixtures("native")
def test_instruction_sets_can_be_lowered() -> None:
    code = "import csta_fast; print(csta_fast.backends.cpu.instruction_set())"
    order = ["portable", "avx2", "avx512"]
    best = order.index(cpu_backend.instruction_set())
    for name in order:
        process = run_python(code, CSTA_FAST_ISA=name)
        assert process.returncode == 0, process.stderr
        assert process.stdout.strip() == order[min(order.index(name), best)]
