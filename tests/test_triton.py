"""The Triton kernels beyond the contract: pipelines in any order, traffic, and refusals.

The contract itself runs on them like on every backend. Here programs run in several threads at
once, which the interpreter otherwise does one by one in the order of their tickets.
"""

from __future__ import annotations

import random
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from backends import BACKENDS, Backend, require
from cases import FEW_CASES, Case, named
from contract import check, run
from inputs import make
from torch import Tensor

from csta_fast import functional, triton_backend

TRITON: Backend = next(backend for backend in BACKENDS if backend.name == "triton")

if triton_backend.MISSING is not None:
    pytest.skip(triton_backend.MISSING, allow_module_level=True)

from csta_fast.kernels import operations, pipeline, plans

_SMALL = [case for case in FEW_CASES if case.op != "pool" and torch.Size(case.shape).numel() < 3000]

interpreted_only = pytest.mark.skipif(not TRITON.interpreted, reason="needs the interpreter")


@pytest.fixture
def pipelined(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Small samples, too, are handed from program to program, in small slices."""
    require("triton")
    monkeypatch.setattr(plans, "_ALONE", 0)
    monkeypatch.setattr(plans, "_ITEM_BYTES", 256)
    plans.plan.cache_clear()
    yield
    plans.plan.cache_clear()


@pytest.mark.usefixtures("pipelined")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
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

        def launch(*args: Any, **options: Any) -> None:
            errors: list[BaseException] = []

            def program() -> None:
                try:
                    self._kernel[(1,)](*args, **options)
                except BaseException as error:
                    errors.append(error)

            scope = interpreter._patch_lang(self._kernel.rewrite())
            threads = [threading.Thread(target=program, daemon=True) for _ in range(*grid)]
            try:
                for thread in threads:
                    thread.start()
                deadline = time.monotonic() + 60
                for thread in threads:
                    thread.join(max(0.0, deadline - time.monotonic()))
            finally:
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


class _Traffic:
    """How often every element of some tensors is loaded and stored by the interpreter."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from triton.runtime import interpreter

        builder = interpreter.InterpreterBuilder
        load, store = builder.create_masked_load, builder.create_masked_store
        self._watched: dict[str, tuple[Tensor, Tensor]] = {}

        def watched_load(this: Any, place: Any, mask: Any, *rest: Any) -> Any:
            self._count("loaded", place, mask)
            return load(this, place, mask, *rest)

        def watched_store(this: Any, place: Any, value: Any, mask: Any, *rest: Any) -> Any:
            self._count("stored", place, mask)
            return store(this, place, value, mask, *rest)

        monkeypatch.setattr(builder, "create_masked_load", watched_load)
        monkeypatch.setattr(builder, "create_masked_store", watched_store)

    def watch(self, what: str, tensor: Tensor) -> Tensor:
        """Count what is "loaded" from, or "stored" to, a tensor; returns the counts."""
        counts = torch.zeros(tensor.numel(), dtype=torch.int64)
        self._watched[what] = (tensor, counts)
        return counts

    def _count(self, what: str, place: Any, mask: Any) -> None:
        if what in self._watched:
            tensor, counts = self._watched[what]
            first = tensor.data_ptr()
            places, real = np.broadcast_arrays(place.data, mask.data.astype(bool))
            addresses = places[real].astype(np.int64)
            inside = addresses[(addresses >= first) & (addresses < first + tensor.nbytes)]
            index = torch.from_numpy((inside - first) // tensor.element_size())
            counts.index_add_(0, index, torch.ones_like(index))


def _heads(channels: int, hidden: int = 5) -> list[Tensor]:
    shapes = [(hidden, channels), (hidden,), (1, hidden), (1,)] * 2
    return [torch.randn(shape) for shape in shapes]


@interpreted_only
@pytest.mark.usefixtures("pipelined")
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("shape", [(2, 6, 9, 17), (3, 9, 20, 25)])
def test_traffic_of_a_training_step(
    shape: tuple[int, ...], last: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """x twice and y once in forward; x once, u twice and dx once in backward."""
    layout = torch.channels_last if last else torch.contiguous_format
    x, u = (torch.randn(shape).contiguous(memory_format=layout) for _ in range(2))
    heads, choices = _heads(shape[1]), (0, None, False)
    traffic = _Traffic(monkeypatch)
    loaded = traffic.watch("loaded", x)
    y, *attention = operations.csta(x, *heads, None, None, None, *choices)
    assert (loaded == 2).all()
    for tensor, times in ((x, 1), (u, 2)):
        loaded = traffic.watch("loaded", tensor)
        results = operations.csta_backward(
            u, None, None, x, *heads, *attention, None, None, None, *choices, True
        )
        assert (loaded == times).all()
    for tensor, call in (
        (y, lambda: operations.csta(x, *heads, None, None, None, *choices)),
        (results[0], lambda: operations.csta_backward(
            u, None, None, x, *heads, *attention, None, None, None, *choices, True)),
    ):  # fmt: skip
        monkeypatch.setattr(operations.Call, "like_x", lambda self, x, tensor=tensor: tensor)
        stored = traffic.watch("stored", tensor)
        call()
        assert (stored == 1).all()


@interpreted_only
@pytest.mark.usefixtures("pipelined")
@pytest.mark.parametrize("residual", [False, True])
def test_padding_is_not_read(residual: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(3, 6, 20, 17)
    lengths = torch.tensor([20, 7, 0])
    traffic = _Traffic(monkeypatch)
    loaded = traffic.watch("loaded", x).view(x.shape)
    operations.csta(x, *_heads(6), lengths, None, None, 0, None, residual)
    real = torch.arange(20)[None, :] < lengths[:, None]
    assert (loaded == torch.where(real, 2, int(residual))[:, None, :, None]).all()


_FIELD = [
    (64, 64, 25), (64, 32, 25), (25, 64, 32), (128, 32, 25), (256, 16, 25), (64, 100, 25),
    (128, 50, 25), (256, 25, 25), (64, 300, 25), (128, 150, 25), (256, 75, 25), (24, 288, 25),
    (48, 288, 25), (64, 144, 25), (128, 72, 25), (272, 72, 25), (64, 52, 20), (3, 64, 25),
]  # fmt: skip


@pytest.mark.parametrize("element_bytes", [2, 4])
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("l2", [40 << 20, 50 << 20, 96 << 20])
@pytest.mark.parametrize("shape", _FIELD, ids=str)
def test_the_second_use_comes_from_the_cache(
    shape: tuple[int, int, int], l2: int, last: bool, element_bytes: int
) -> None:
    """All that a pipeline moves between the two uses of a sample fits half of the L2 cache, and
    what it keeps between its stages is little beside x: 2 units in forward, 5 a step."""
    channels, frames, joints = shape
    sample = channels * frames * joints * element_bytes
    for passes, tensors in ((1, 2), (2, 3)):  # x, y; x, u, dx
        plan = plans.plan(*shape, 1, element_bytes, last, l2, passes)
        if not plan.alone:
            assert plan.window * tensors * sample <= l2 / 2 or plan.window == 1
            assert tensors * sample <= l2 / 2, "one sample alone is too much"
        sums = channels * (frames + joints * plan.frame_slices)
        rows = plan.rows * (frames + joints * plan.frame_slices)
        between = 4 * (sums + (rows + 2 * channels * (frames + joints)) * (passes == 2))
        assert between <= {1: 0.25, 2: 0.9}[passes] * sample * (4 / element_bytes)


@pytest.mark.parametrize("shape", _FIELD, ids=str)
def test_plans_cover_a_sample_once(shape: tuple[int, int, int]) -> None:
    for last in (False, True):
        plan = plans.plan(*shape, 1, 4, last, 50 << 20, 1)
        assert plan.block_c * plan.block_t * plan.block_v <= plans.TILE
        assert plan.slice_frames % plan.block_t == plan.slice_positions % plan.flat_p == 0
        assert (plan.frame_slices - 1) * plan.slice_frames < plan.frames
        assert plan.frame_slices * plan.slice_frames >= plan.frames
