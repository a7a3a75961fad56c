"""The Triton kernels' pipelines: in small slices, with any window, and with programs at once.

The contract itself runs on them like on every backend. Here programs run in several threads at
once, which the interpreter otherwise does one by one in the order of their tickets.
"""

from __future__ import annotations

import random
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from backends import BACKENDS, Backend
from cases import FEW_CASES, Case, named
from contract import check, run
from inputs import make

from csta_fast import functional
from csta_fast.backends import triton as triton_backend

TRITON: Backend = next(backend for backend in BACKENDS if backend.name == "triton")

if triton_backend.unavailable is not None:
    pytest.skip(triton_backend.unavailable, allow_module_level=True)

from csta_fast.kernels import operations, pipeline

_SMALL = [case for case in FEW_CASES if case.op != "pool" and torch.Size(case.shape).numel() < 4000]

interpreted_only = pytest.mark.skipif(not TRITON.interpreted, reason="needs the interpreter")


@pytest.mark.usefixtures("pipelined")
@pytest.mark.parametrize(
    "dtype", [pytest.param(torch.float32, marks=pytest.mark.quick), torch.bfloat16], ids=str
)
@pytest.mark.parametrize("case", _SMALL, ids=str)
def test_contract_in_a_pipeline(case: Case, dtype: torch.dtype) -> None:
    check(case, dtype, TRITON)


@pytest.mark.usefixtures("pipelined")
@pytest.mark.parametrize("window", [0, 1, 5])
def test_any_window(window: int, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = make(named("masks_all"), torch.float32, TRITON.device)
    wanted = run(inputs, "triton")
    monkeypatch.setattr(operations.Call, "delay", window)
    _assert_equal(run(inputs, "triton"), wanted)


@pytest.mark.usefixtures("pipelined")
def test_a_sample_alone_and_in_a_batch_of_a_pipeline() -> None:
    x = torch.randn(5, 6, 9, 17, device=TRITON.device)
    logits = torch.randn(5, 2, 9, device=x.device), torch.randn(5, 2, 17, device=x.device)
    batch = functional.couple(x, *logits, backend="triton")
    for sample in range(5):
        here = slice(sample, sample + 1)
        one = functional.couple(x[here], *(each[here] for each in logits), backend="triton")
        assert torch.equal(one, batch[here])


def _assert_equal(ours: Any, theirs: Any) -> None:
    for mine, other in zip(ours, theirs, strict=True):
        for name, tensor in mine.items():
            assert torch.equal(tensor.nan_to_num(), other[name].nan_to_num()), name


class _AllAtOnce:
    """A kernel whose programs run in threads, in the order in which the system likes them."""

    def __init__(self, kernel: Any) -> None:
        self._kernel = kernel

    def __getitem__(self, grid: tuple[int]) -> Callable[..., None]:
        from triton.runtime import interpreter

        nothing = SimpleNamespace(restore=lambda: None)

        def launch(*args: Any, **options: Any) -> None:
            errors: list[BaseException] = []

            def program() -> None:
                try:
                    self._kernel[(1,)](*args, **options)
                except BaseException as error:
                    errors.append(error)

            # Once for all of them: what one program puts back, another would miss.
            scope = interpreter._patch_lang(self._kernel.rewrite())
            patch, interpreter._patch_lang = interpreter._patch_lang, lambda function: nothing
            threads = [threading.Thread(target=program, daemon=True) for _ in range(*grid)]
            try:
                for thread in threads:
                    thread.start()
                deadline = time.monotonic() + 60
                for thread in threads:
                    thread.join(max(0.0, deadline - time.monotonic()))
            finally:
                interpreter._patch_lang = patch
                scope.restore()
            assert not errors, errors[0]
            assert not any(thread.is_alive() for thread in threads), "programs wait for each other"

        return launch


@pytest.fixture
def all_at_once(monkeypatch: pytest.MonkeyPatch, pipelined: None) -> Iterator[None]:
    """Programs run at the same time; a store may take its time, as it does on hardware."""
    from triton.runtime import interpreter

    numbers = random.Random(7)
    store = interpreter.InterpreterBuilder.create_masked_store

    def slow_store(*args: Any) -> Any:
        if numbers.random() < 0.2:
            time.sleep(0.002 * numbers.random())
        return store(*args)

    monkeypatch.setattr(interpreter.InterpreterBuilder, "create_masked_store", slow_store)
    monkeypatch.setattr(
        interpreter.InterpreterBuilder, "create_store",
        lambda self, place, value, *_: slow_store(
            self, place, value, _everywhere(interpreter, place), None, None),
    )  # fmt: skip
    for name in ("forward_kernel", "backward_kernel"):
        kernel = getattr(pipeline, name)
        monkeypatch.setattr(pipeline, name, _AllAtOnce(kernel))
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-4)
    yield
    sys.setswitchinterval(interval)


def _everywhere(interpreter: Any, place: Any) -> Any:
    import triton.language as tl

    return interpreter.TensorHandle(np.ones_like(place.data, dtype=bool), tl.int1)


@pytest.mark.quick
@interpreted_only
@pytest.mark.parametrize("name", ["odd", "masks_all", "couple_two_groups"])
def test_programs_at_the_same_time(
    name: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    inputs = make(named(name), torch.float32)
    request.getfixturevalue("pipelined")
    wanted = run(inputs, "triton")
    request.getfixturevalue("all_at_once")
    _assert_equal(run(inputs, "triton"), wanted)
