"""``python -m csta_fast``: what it prints, its self-test and its advice."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from csta_fast import __main__ as report
from csta_fast import backends, functional
from csta_fast.backends import cpu as cpu_backend
from csta_fast.backends import cuda as cuda_backend


def test_report(capsys: pytest.CaptureFixture[str]) -> None:
    assert report.main([]) == 0
    printed = capsys.readouterr().out
    assert f"torch            {torch.__version__}" in printed
    gpu = torch.cuda.is_available()
    here = {"cpu": cpu_backend.unavailable is None, "triton": gpu, "reference": True,
            "cuda": gpu and cuda_backend.unavailable is None}  # fmt: skip
    for name in backends.BACKENDS:
        if here[name]:
            assert len(re.findall(rf"^{name} .* ok$", printed, re.MULTILINE)) == 4


def test_report_without_self_test(capsys: pytest.CaptureFixture[str]) -> None:
    assert report.main(["--no-self-test"]) == 0
    assert "error of y" not in capsys.readouterr().out


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(
    "harm",
    [lambda y: y * 0, lambda y: y.roll(1, 3), lambda y: y * torch.nan, lambda y: y * 1.02],
    ids=["zeros", "permuted", "nan", "scaled"],
)
def test_self_test_rejects(
    monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, harm: Callable[[Tensor], Tensor]
) -> None:
    right = functional.csta

    def wrong(x: Tensor, *arguments: Any, backend: str, **options: Any) -> Any:
        y = right(x, *arguments, backend="reference", **options)
        return harm(y) if backend == "spoilt" else y

    monkeypatch.setattr(functional, "csta", wrong)
    assert report.self_test("reference", dtype, "cpu")[2]
    assert not report.self_test("spoilt", dtype, "cpu")[2]


def test_failed_self_test_is_the_exit_status(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(report, "self_test", lambda *_: (1.0, 1.0, False))
    assert report.main([]) == 1
    assert "WRONG" in capsys.readouterr().out


def test_advice(monkeypatch: pytest.MonkeyPatch) -> None:
    def advise() -> str:
        return "\n".join(report.advice())

    for name in ("THP_MEM_ALLOC_ENABLE", "MALLOC_MMAP_MAX_", "MALLOC_TRIM_THRESHOLD_"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(backends, "FORCED", None)
    monkeypatch.setattr(cpu_backend, "unavailable", None)
    monkeypatch.setattr(sys, "platform", "linux")
    assert "THP_MEM_ALLOC_ENABLE=1" in advise()
    monkeypatch.setenv("THP_MEM_ALLOC_ENABLE", "1")
    assert advise() == ""
    monkeypatch.setenv("MALLOC_MMAP_MAX_", "0")
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "17179869184")
    assert "unset one" in advise()
    monkeypatch.delenv("THP_MEM_ALLOC_ENABLE")
    monkeypatch.setenv("CSTA_FAST_ISA", "avx3")
    assert "CSTA_FAST_ISA: wanted one of portable, avx2, avx512, got 'avx3'" in advise()
    monkeypatch.setenv("CSTA_FAST_ISA", "avx2")
    assert "CSTA_FAST_ISA" not in advise()
    monkeypatch.setattr(backends, "FORCED", "gpu")
    assert "CSTA_FAST_BACKEND: wanted one of cpu, cuda, triton, reference, got 'gpu'" in advise()
    monkeypatch.setattr(backends, "FORCED", "cpu")
    assert "CSTA_FAST_BACKEND=cpu forces one backend" in advise()
    monkeypatch.setattr(backends, "FORCED", "reference")
    assert "CSTA_FAST_BACKEND=reference" in advise()
    monkeypatch.setattr(cpu_backend, "unavailable", "the reason")
    assert "the reason" in advise()
    monkeypatch.setattr(torch, "__version__", "2.9.1+cpu")
    assert "torch 2.9.1+cpu is too old" in advise()
