"""The CUDA kernels on the emulator: every plan, whatever order the threads run in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import emulation
import pytest
import torch
from backends import EMULATED
from cases import FEW_CASES, Case, named
from contract import Tensors, assert_like, check, run
from huge import addresses, check_reading_far_away
from inputs import Inputs, make, one_sample

from csta_fast import functional, reference
from csta_fast.backends import cuda as cuda_backend

#: Plans that the small cases do not come to by themselves.
PLANS: dict[str, dict[str, Any]] = {
    "streamed": {"chunk_bytes": 256, "shared_bytes": 12_000, "order": "random", "dense": False},
    "two_blocks": {"chunk_bytes": 300, "shared_bytes": 20_000, "most_blocks": 2,
                   "order": "block by block", "dense": False},
    "before_hopper": {"chunk_bytes": 512, "bulk_copies": False, "clusters": False},
    "rooms_in_memory": {"chunk_bytes": 200, "shared_bytes": 5_000, "threads": 32,
                        "dense": False},
    "rooms_in_memory_before_hopper": {"chunk_bytes": 100, "shared_bytes": 6_000, "threads": 32,
                                      "bulk_copies": False, "clusters": False},
    "any_sample": {"dense": False},
}  # fmt: skip

_LARGE = 20_000
_CASES = [case for case in FEW_CASES if torch.Size(case.shape).numel() <= _LARGE]


#: What is taken 16 bytes at a time: planes that lie alike, more than eight channels of them to a
#: chunk, vectors at the edge of padding and of more than one group, groups whose S takes several
#: rounds.
_PACKED = [
    Case("packed", (2, 24, 8, 25)),
    Case("packed_lengths", (4, 24, 8, 25), masks="lengths", residual=True),
    Case("packed_lengths_zeroed", (4, 20, 8, 17), masks="lengths"),
    Case("packed_groups", (2, 24, 8, 25), groups=4),
    Case("packed_even", (2, 12, 6, 20), hidden=16),
    Case("rounds_of_groups", (1, 64, 20, 25), groups=64),
    Case("packed_offset", (2, 12, 8, 25), layout="offset"),
    Case("packed_last", (4, 24, 5, 7), layout="channels_last", upstream="channels_last",
         masks="lengths"),
    Case("packed_last_groups", (2, 24, 5, 7), layout="channels_last", upstream="channels_last",
         groups=2),
    Case("packed_couple", (2, 24, 8, 25), op="couple"),
    Case("packed_masks", (4, 24, 8, 25), masks="all"),
    Case("packed_masks_groups", (4, 20, 8, 17), masks="all", groups=2, residual=True),
    Case("packed_masks_alone", (4, 6, 9, 25), masks="all_shared"),
    Case("packed_masks_couple", (4, 24, 8, 25), op="couple", masks="joints"),
    Case("packed_last_masks", (4, 24, 5, 7), layout="channels_last", upstream="channels_last",
         masks="all", residual=True),
]  # fmt: skip


@pytest.mark.quick
@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("case", _CASES, ids=str)
def test_plans(case: Case, plan: str, adjust: Callable[..., None]) -> None:
    adjust(**PLANS[plan])
    check(case, torch.float32, EMULATED)


@pytest.mark.quick
@pytest.mark.parametrize("dtype", EMULATED.dtypes, ids=str)
@pytest.mark.parametrize("case", _PACKED, ids=str)
@pytest.mark.parametrize("dense", [True, False], ids=["dense", "any"])
def test_vectors(case: Case, dtype: torch.dtype, dense: bool, adjust: Callable[..., None]) -> None:
    adjust(dense=dense)
    check(case, dtype, EMULATED)


#: The dense kernels' cases: odd and even numbers of joints, more vectors than threads, more
#: channels than eight to a block, a last block with none or few; unaligned planes.
_PLANES = [
    Case("planes", (2, 24, 8, 25), hidden=4),
    Case("planes_residual", (2, 13, 12, 17), hidden=6, residual=True),
    Case("planes_even", (2, 12, 16, 20), hidden=16),
    Case("planes_sigmoid", (3, 20, 8, 18), gate="sigmoid", scale=2.5),
    Case("planes_long", (1, 6, 40, 25), hidden=4),
    Case("unaligned", (2, 8, 9, 17)),
    Case("unaligned_residual", (2, 24, 7, 25), residual=True),
    Case("unaligned_even", (3, 16, 9, 18), gate="sigmoid"),
    Case("unaligned_long", (1, 16, 41, 25), hidden=4),
]
#: The device, and the blocks of a cluster of float32 in forward and in backward.
_PLANS_OF_PLANES: dict[str, dict[str, Any]] = {
    "one_block": {"shared_bytes": 200_000, "order": "reverse"},
    "two_blocks": {"shared_bytes": 60_000, "most_blocks": 1, "order": "block by block"},
    "many_blocks": {"shared_bytes": 22_000, "order": "random"},
    "x_passes": {"shared_bytes": 20_000, "most_blocks": 1, "chunk_bytes": 128},
}


@pytest.mark.quick
@pytest.mark.parametrize("dtype", EMULATED.dtypes[1:], ids=str)  # float64 is not served
@pytest.mark.parametrize("plan", _PLANS_OF_PLANES)
@pytest.mark.parametrize("case", _PLANES, ids=str)
def test_dense(case: Case, plan: str, dtype: torch.dtype, adjust: Callable[..., None]) -> None:
    adjust(**_PLANS_OF_PLANES[plan])
    check(case, dtype, EMULATED)


@pytest.mark.quick
def test_logits_of_dense_may_be_large(adjust: Callable[..., None]) -> None:
    """What both biases add to all logits changes nothing but rounding."""
    adjust()
    inputs = make(_PLANES[0], torch.float32)
    wanted = inputs.call("cuda-emulated")
    with torch.no_grad():
        for name in ("frame_head.b2", "joint_head.b2"):
            inputs.tensors[name] += 100
    for name, found in inputs.call("cuda-emulated").items():
        torch.testing.assert_close(found, wanted[name], rtol=1e-4, atol=1e-5)


@pytest.mark.quick
def test_one_block_after_the_other_sample(adjust: Callable[..., None]) -> None:
    """Masks too long for shared memory leave few blocks: each spreads the gradients of several."""
    adjust()
    inputs = make(Case("long_masks", (6, 1, 2, 16_500), op="pool", masks="joints"), torch.float32)
    _, ours = run(inputs, "cuda-emulated")
    _, wanted = run(inputs, "reference")
    assert_like(ours, wanted)


def _bits(inputs: Inputs) -> Tensors:
    results, gradients = run(inputs, "cuda-emulated")
    return {**results, **{f"gradient of {name}": value for name, value in gradients.items()}}


@pytest.mark.quick
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("op", ["csta", "couple", "pool"])
def test_a_sample_of_a_cluster_alone_and_in_a_batch(
    op: str, layout: str, adjust: Callable[..., None]
) -> None:
    """Not even the plan depends on how many others there are, nor which cluster takes whom."""
    adjust(shared_bytes=26_000, chunk_bytes=256)
    case = Case("batch", (4, 12, 24, 17), op=op, layout=layout, upstream=layout, masks="lengths")
    inputs = make(case, torch.float32)
    with torch.no_grad():
        inputs.call("cuda-emulated")
    assert emulation.install().emulated_cluster() == 8
    batch = _bits(inputs)
    for sample in range(4):
        for name, alone in _bits(one_sample(inputs, sample)).items():
            if "_head" not in name:
                assert alone.equal(batch[name][sample : sample + 1]), name


@pytest.mark.quick
@pytest.mark.parametrize("plan", ["streamed", "before_hopper"])
@pytest.mark.parametrize("name", ["odd", "masks_all", "last_odd", "pool_odd", "couple_two_groups"])
def test_the_same_bits_whoever_runs_first(
    name: str, plan: str, adjust: Callable[..., None]
) -> None:
    settings = {key: value for key, value in PLANS[plan].items() if key != "order"}
    adjust(**settings)
    wanted = _bits(make(named(name), torch.float32))
    for order in emulation.ORDERS:
        for landing in emulation.LANDINGS:
            for seed in (1, 2) if "random" in (order, landing) else (1,):
                adjust(**settings, order=order, landing=landing, seed=seed)
                for key, value in _bits(make(named(name), torch.float32)).items():
                    same = value.nan_to_num().equal(wanted[key].nan_to_num())
                    assert same, (key, order, landing, seed)


@pytest.mark.quick
@pytest.mark.parametrize("plan", ["two_blocks", "many_blocks", "x_passes"])
def test_the_same_bits_of_dense_whoever_runs_first(plan: str, adjust: Callable[..., None]) -> None:
    settings = {key: value for key, value in _PLANS_OF_PLANES[plan].items() if key != "order"}
    adjust(**settings)
    wanted = _bits(make(_PLANES[0], torch.float32))
    for order in emulation.ORDERS:
        for landing in emulation.LANDINGS:
            adjust(**settings, order=order, landing=landing, seed=3)
            for key, value in _bits(make(_PLANES[0], torch.float32)).items():
                assert value.equal(wanted[key]), (key, order, landing)


@pytest.mark.quick
@pytest.mark.parametrize("which", [1, 2, 3, 4])
def test_a_launch_that_fails_is_an_error(which: int, adjust: Callable[..., None]) -> None:
    inputs = make(Case("refused", (3, 6, 9, 17)), torch.float32)
    adjust(refused=which)
    with pytest.raises(RuntimeError, match="csta_fast: CUDA: an emulated launch failed"):
        run(inputs, "cuda-emulated")
    run(inputs.requires_grad(), "cuda-emulated")


@pytest.mark.quick
@pytest.mark.parametrize("op", ["csta", "couple", "pool"])
def test_lengths_out_of_range_count_as_none_or_all(op: str, adjust: Callable[..., None]) -> None:
    """On a GPU nobody looks at them before."""
    adjust(host_sees_values=False)
    inputs = make(Case("lengths", (4, 6, 9, 17), op=op), torch.float32)
    found, wanted = (
        run(replace(inputs.requires_grad(), masks={**inputs.masks, "lengths": torch.tensor(each)}),
            "cuda-emulated")
        for each in ([-3, 2**40, 5, -(2**40)], [0, 9, 5, 0])
    )  # fmt: skip
    for ours, theirs in zip(found, wanted, strict=True):
        assert [name for name, each in ours.items() if not each.equal(theirs[name])] == []


#: More than 2^31 elements in chunks of 64 Ki, so that they are few.
_FAR = {"chunk_bytes": 2**17, "shared_bytes": 2**22}


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
def test_reading_at_offsets_of_more_than_32_bits(
    layout: torch.memory_format, adjust: Callable[..., None]
) -> None:
    adjust(**_FAR)
    check_reading_far_away((9, 2, 8192, 16384), layout, "cuda-emulated", "csta_fast_emulated")


@pytest.mark.slow
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
def test_writing_at_offsets_of_more_than_32_bits(
    layout: torch.memory_format, adjust: Callable[..., None]
) -> None:
    adjust(**_FAR)
    shape = (9, 2, 8192, 16384)
    x = addresses(shape, layout)
    x[-1, :, :3] = torch.randn(2, 3, 16384)
    lengths = torch.tensor([0] * 8 + [3])
    logits = torch.randn(9, 1, 8192), torch.randn(9, 1, 16384)
    y = functional.couple(x, *logits, lengths=lengths, backend="cuda-emulated")
    last, _ = reference.couple(x[-1:, :, :3], logits[0][-1:, :, :3], logits[1][-1:])
    torch.testing.assert_close(y[-1:, :, :3], last)
    means = torch.randn(9, 2, 8192).bfloat16(), torch.randn(9, 2, 16384).bfloat16()
    spread = torch.ops.csta_fast_emulated.pool_backward(
        *means, lengths, None, None, layout == torch.channels_last
    )
    wanted = means[0][-1, :, :3, None].float() / 16384 + means[1][-1, :, None].float() / 3
    torch.testing.assert_close(spread[-1, :, :3], wanted.bfloat16())


def test_what_is_too_large_is_refused(adjust: Callable[..., None]) -> None:
    """An exported program is not asked before; a position that fits nowhere stands for 2^30."""
    adjust(shared_bytes=2_000)
    x = torch.zeros(2, 4096, 3, 5).contiguous(memory_format=torch.channels_last)
    wanted = (
        r"x: wanted T V and C \(T \+ V\), .*, got \(N, C, T, V\) = \(2, 4096, 3, 5\); "
        "backend='reference' takes every size, in an exported program if"
    )
    with pytest.raises(RuntimeError, match=wanted):
        functional.pool(x, backend="cuda-emulated")
    huge = torch.zeros(1).expand(1, 1, 2**16, 2**15)
    logits = torch.zeros(1, 1, 2**16), torch.zeros(1, 1, 2**15)
    with pytest.raises(RuntimeError, match=r"got \(N, C, T, V\) = \(1, 1, 65536, 32768\)"):
        functional.couple(huge, *logits, backend="cuda-emulated")


def test_a_device_that_the_library_cannot_run_on_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cuda_backend, "_ask_runtime", lambda index: f"driver {index} is old")
    device = torch.device("cuda", 7)
    assert cuda_backend._runtime_refusal(device) == "cannot run on cuda:7 (driver 7 is old)"
