"""How often the Triton kernels touch memory: counted element by element, and derived from plans."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from csta_fast.backends import triton as triton_backend

if triton_backend.unavailable is not None:
    pytest.skip(triton_backend.unavailable, allow_module_level=True)

from csta_fast.kernels import operations, plans

interpreted_only = pytest.mark.skipif(
    not triton_backend.INTERPRETED, reason="needs the interpreter"
)


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
@pytest.mark.parametrize("shape", [(2, 6, 9, 17), (2, 9, 20, 25)])
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
        if not plan.single_program:
            assert plan.window * tensors * sample <= l2 / 2 or plan.window == 1
            assert tensors * sample <= l2 / 2, "one sample single_program is too much"
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
