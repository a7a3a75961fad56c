"""The CUDA kernels on the emulator: what they read, how often, when, and in how many launches."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import emulation
import pytest
import torch
from cases import CLUSTERS, Case
from contract import run
from inputs import make

from csta_fast import CSTA, functional


def _bytes_of(call: Callable[[], Any]) -> int:
    library = emulation.install()
    before = library.emulated_bytes()
    call()
    return int(library.emulated_bytes() - before)


def _is_read_once(read: int, wanted: int, x: torch.Tensor, channels_last: bool) -> bool:
    """Whether that was all, plus, with the dense kernels, w1 of two heads of 16 units per block."""
    weights = 2 * 16 * x.shape[1] * x.element_size()
    clusters = (0,) if channels_last else (1, 2, 4, 8, 16)
    return read - wanted in [x.shape[0] * blocks * weights for blocks in clusters]


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("shape", [(2, 64, 64, 25), (2, 64, 100, 25)])
def test_what_fits_a_cluster_is_read_once(
    shape: tuple[int, int, int, int], channels_last: bool, adjust: Callable[..., None]
) -> None:
    """x once in forward; x and grad_y once each in backward; w1 too, with the dense kernels."""
    adjust()
    layout = torch.channels_last if channels_last else torch.contiguous_format
    x = torch.randn(shape).contiguous(memory_format=layout).requires_grad_()
    layer = CSTA(64, hidden=16, backend="cuda-emulated")
    results = []
    size = 4 * x.numel()
    read = _bytes_of(lambda: results.append(layer(x)))
    assert _is_read_once(read, size, x, channels_last)
    upstream = torch.ones_like(x)
    read = _bytes_of(lambda: results[0].backward(upstream))
    assert _is_read_once(read, 2 * size, x, channels_last)
    assert _bytes_of(lambda: functional.pool(x, backend="cuda-emulated")) == size


@pytest.mark.quick
@pytest.mark.parametrize(("op", "frames", "planes"), [("csta", 128, 1), ("pool", 64, 2)])
def test_pooling_starts_while_chunks_land(
    op: str, frames: int, planes: int, adjust: Callable[..., None]
) -> None:
    """Each block has several, which land one by one: after each but the last it has pooled."""
    adjust(dense=False)
    inputs = make(Case("overlap", (2, 64, frames, 25), op=op, hidden=16), torch.float32)
    library = emulation.install()
    before = library.emulated_overlaps()
    with torch.no_grad():
        inputs.call("cuda-emulated")
    blocks = 2 * library.emulated_cluster()
    chunks = 64 // library.emulated_cluster() // planes
    assert library.emulated_overlaps() - before == blocks * (chunks - 1)


@pytest.mark.quick
@pytest.mark.parametrize("plan", [{}, {"shared_bytes": 50_000, "clusters": False}])
@pytest.mark.parametrize("channels_last", [False, True])
def test_couple_reads_once_what_fits_nowhere(
    channels_last: bool, plan: dict[str, Any], adjust: Callable[..., None]
) -> None:
    """x once in forward, x and u once each in backward: nothing of a sample need stay."""
    adjust(**plan)
    shape = (1, 64, 64, 32)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    x = torch.randn(shape).contiguous(memory_format=layout).requires_grad_()
    logits = [torch.randn(1, 1, length).requires_grad_() for length in shape[2:]]
    results = []
    size = 4 * x.numel()
    couple = partial(functional.couple, x, *logits, backend="cuda-emulated")
    assert _bytes_of(lambda: results.append(couple())) == size
    assert _bytes_of(lambda: results[0].backward(torch.ones_like(x))) == 2 * size
    assert emulation.install().emulated_cluster() == (1 if plan else 4)


def test_what_does_not_fit_is_read_again_in_part(adjust: Callable[..., None]) -> None:
    """The second pass finds in shared memory what the first one read last."""
    adjust(shared_bytes=100_000, clusters=False)
    x = torch.randn(2, 64, 64, 25)
    layer = CSTA(64, hidden=16, backend="cuda-emulated")
    with torch.no_grad():
        read = _bytes_of(lambda: layer(x)) / (4 * x.numel())
    assert 1.7 < read < 1.95  # of 400 KiB, 100,000 bytes less the means stay


@pytest.mark.parametrize("blocks", CLUSTERS)
def test_what_a_gpu_is_first_given_has_clusters_of_every_size(
    blocks: str, adjust: Callable[..., None]
) -> None:
    """CLUSTERS names shapes by the blocks of a cluster; here are their plans."""
    adjust()
    x = torch.randn(1, *CLUSTERS[blocks][1:])
    layer = CSTA(x.shape[1], hidden=16, backend="cuda-emulated")
    with torch.no_grad():
        read = _bytes_of(lambda: layer(x)) / (4 * x.numel())
    assert emulation.install().emulated_cluster() == int(blocks.split(",")[0])
    assert (read > 1.3) is ("streaming" in blocks)  # the heads' weights are some of it


def test_padding_is_not_read(adjust: Callable[..., None]) -> None:
    adjust()
    x = torch.randn(2, 64, 64, 25)
    lengths = torch.tensor([16, 32])
    layer = CSTA(64, hidden=16, backend="cuda-emulated")
    with torch.no_grad():
        assert _bytes_of(lambda: layer(x, lengths=lengths)) == 4 * x[0].numel() * 48 // 64


@pytest.mark.parametrize(("op", "launches"), [("csta", 4), ("couple", 2), ("pool", 2)])
def test_one_launch_each_way(op: str, launches: int, adjust: Callable[..., None]) -> None:
    """And two small ones for the gradients of the weights, a product and the sum of its runs."""
    adjust()
    library = emulation.install()
    before = library.emulated_launches()
    run(make(Case("launches", (3, 6, 9, 17), op=op), torch.float32), "cuda-emulated")
    assert library.emulated_launches() - before == launches
