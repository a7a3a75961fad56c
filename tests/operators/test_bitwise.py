"""The same call gives the same bits: repeated, on any number of threads, in any batch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from backends import ALL_DTYPES, BACKENDS, Backend, require
from cases import Case
from contract import Tensors, run
from inputs import Inputs, make, one_sample
from torch import Tensor

#: Backends that promise bits; plain PyTorch does not.
_FUSED = [backend for backend in BACKENDS if backend.name != "reference"]

#: Those that use PyTorch's threads.
_THREADED = [backend for backend in _FUSED if backend.name == "cpu"]

_CASES = [
    Case("small", (4, 8, 9, 17), groups=2),
    Case("wide", (3, 130, 20, 25), hidden=16, masks="all"),
    Case("last", (3, 130, 20, 25), hidden=16, layout="channels_last", upstream="channels_last"),
    Case("strided", (3, 33, 20, 25), layout="transposed", gate="sigmoid", residual=True),
    Case("many_small", (70, 3, 16, 25), masks="lengths"),
    Case("couple", (3, 130, 20, 25), op="couple", groups=13, masks="joints"),
    Case("couple_last", (5, 64, 20, 25), op="couple", layout="channels_last", residual=True),
    Case("pool", (3, 130, 20, 25), op="pool", masks="holes"),
    Case("pool_last", (5, 64, 20, 25), op="pool", layout="channels_last"),
]


@pytest.fixture(params=_FUSED, ids=str)
def fused(request: pytest.FixtureRequest) -> Backend:
    require(request.param.name)
    return request.param


@pytest.fixture(params=_THREADED, ids=str)
def threaded(request: pytest.FixtureRequest) -> Backend:
    require(request.param.name)
    return request.param


@pytest.fixture
def threads() -> Iterator[None]:
    """Leave the number of threads as it was."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def _everything(inputs: Inputs, backend: Backend) -> Tensors:
    results, gradients = run(inputs, backend.name)
    return {**results, **{f"gradient of {name}": each for name, each in gradients.items()}}


def _assert_same_bits(ours: Tensors, theirs: Tensors) -> None:
    for name, tensor in ours.items():
        size = {8: torch.int64, 4: torch.int32, 2: torch.int16}[tensor.element_size()]
        same = torch.equal(tensor.contiguous().view(size), theirs[name].contiguous().view(size))
        assert same, f"{name}: {int((tensor != theirs[name]).sum())} elements differ"


@pytest.mark.parametrize("case", _CASES[:1] + _CASES[2:3], ids=str)
def test_1000_repeats(case: Case, fused: Backend) -> None:
    inputs = make(replace(case, shape=(4, 16, 9, 17)), torch.float32, fused.device)
    wanted = _everything(inputs, fused)
    for _ in range(3 if fused.interpreted else 1000):
        _assert_same_bits(_everything(inputs, fused), wanted)


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("samples", [1, 2, pytest.param(3, marks=pytest.mark.quick), 5])
@pytest.mark.parametrize("case", _CASES, ids=str)
def test_any_number_of_threads(case: Case, samples: int, threaded: Backend) -> None:
    for dtype in threaded.dtypes:
        inputs = make(replace(case, shape=(samples, *case.shape[1:])), dtype, threaded.device)
        torch.set_num_threads(1)
        wanted = _everything(inputs, threaded)
        for count in (2, 3, 4, 7):
            torch.set_num_threads(count)
            _assert_same_bits(_everything(inputs, threaded), wanted)


@pytest.mark.usefixtures("threads")
def test_one_large_sample_on_any_number_of_threads(threaded: Backend) -> None:
    for layout in ("contiguous", "channels_last"):
        case = Case("large", (1, 128, 150, 25), hidden=32, layout=layout, upstream=layout)
        inputs = make(case, torch.float32, threaded.device)
        torch.set_num_threads(1)
        wanted = _everything(inputs, threaded)
        for count in (2, 4):
            torch.set_num_threads(count)
            _assert_same_bits(_everything(inputs, threaded), wanted)


def _affordable(case: Case, backend: Backend) -> Case:
    """The case with fewer channels and frames where an interpreter runs it."""
    if not backend.interpreted:
        return case
    samples, channels, frames, joints = case.shape
    groups = min(case.groups, 2)
    few = (min(samples, 3), min(channels, 18) // groups * groups, min(frames, 9), joints)
    return replace(case, groups=groups, shape=few)


@pytest.mark.parametrize("dtype", ALL_DTYPES, ids=str)
@pytest.mark.parametrize("case", _CASES, ids=str)
def test_a_sample_alone_and_in_a_batch(case: Case, dtype: torch.dtype, fused: Backend) -> None:
    """A dtype at a time: where kernels are compiled, each takes half a dozen of them."""
    if dtype not in (fused.dtypes[1:3] if fused.interpreted else fused.dtypes):
        pytest.skip("two dtypes are enough for an interpreter's time")
    case = _affordable(case, fused)
    inputs = make(case, dtype, fused.device)
    batch = _everything(inputs, fused)
    per_sample = [name for name in batch if "_head" not in name]
    for sample in (0, 1, case.shape[0] - 1):
        alone = _everything(one_sample(inputs, sample), fused)
        here = slice(sample, sample + 1)
        _assert_same_bits(
            {name: alone[name] for name in per_sample},
            {name: batch[name][here] for name in per_sample},
        )


def _cache_bytes() -> int:
    """The last-level cache, beyond which results are stored past the caches."""
    size = Path("/sys/devices/system/cpu/cpu0/cache/index3/size")
    text = size.read_text().strip() if size.exists() else "16M"
    return int(text.rstrip("KMG")) << {"K": 10, "M": 20, "G": 30}.get(text[-1], 0)


@pytest.mark.parametrize(
    "masks", [*(pytest.param(each, marks=pytest.mark.quick) for each in ("none", "joints")), "all"]
)
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("shape", [(4, 6, 64, 25), (4, 5, 33, 17), (4, 24, 7, 5)])
def test_large_results_are_those_of_small_ones(
    shape: tuple[int, ...], layout: str, masks: str, fused: Backend
) -> None:
    if fused.interpreted:
        pytest.skip("an interpreter has no caches to be stored past, and takes hours")
    for dtype in fused.dtypes[1:3]:
        case = Case("large_batch", shape, layout=layout, upstream=layout, masks=masks)
        few = make(case, dtype, fused.device)
        size = few.tensors["x"].numel() * dtype.itemsize
        copies = int(0.6 * _cache_bytes() / size) + 1

        def repeated(tensor: Tensor, copies: int = copies, last: str = layout) -> Tensor:
            many = tensor.detach().repeat(copies, *(1,) * (tensor.dim() - 1))
            is_last = last == "channels_last" and tensor.dim() == 4
            return many.to(memory_format=torch.channels_last) if is_last else many

        tensors = {**few.tensors, "x": repeated(few.tensors["x"])}
        many_masks = {n: None if m is None else repeated(m) for n, m in few.masks.items()}
        upstream = tuple(repeated(each) for each in few.upstream)
        many = Inputs(case, tensors, many_masks, upstream, few.real).requires_grad()
        wanted, found = _everything(few, fused), _everything(many, fused)
        for name in ("y", "frame_attention", "joint_attention", "gradient of x"):
            _assert_same_bits({name: found[name]}, {name: repeated(wanted[name])})


def test_gradients_do_not_depend_on_which_are_wanted(fused: Backend) -> None:
    for case in (_affordable(_CASES[1], fused), _affordable(_CASES[2], fused)):
        inputs = make(case, torch.float32, fused.device)
        wanted = _everything(inputs, fused)
        for names in (("x",), ("frame_head.w1",), ("joint_head.b2", "x")):
            few = inputs.requires_grad(names)
            gradients = torch.autograd.grad(
                tuple(few.call(fused.name).values()),
                [few.tensors[name] for name in names],
                few.upstream,
            )
            for name, gradient in zip(names, gradients, strict=True):
                key = f"gradient of {name}"
                _assert_same_bits({key: gradient}, wanted)
