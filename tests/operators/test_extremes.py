"""Values at the edge: huge, infinite and equal logits, NaN and infinity in x, huge tensors."""

from __future__ import annotations

import pytest
import torch
from backends import ALL_DTYPES, Backend
from cases import Case
from contract import assert_like, run
from huge import check_reading_far_away
from inputs import Inputs, make
from torch import Tensor

from csta_fast import functional, reference

_ROW = (2, 6, 9, 17)


def _at(logits: Tensor, place: int, value: float) -> Tensor:
    """The logits with another number at one place of every row."""
    return logits.index_fill(2, torch.tensor([place], device=logits.device), value)


_LOGITS = {
    "huge": lambda logits: logits * 1e4,
    "hugely_negative": lambda logits: logits - 1e4,
    "equal": torch.zeros_like,
    "equal_and_huge": lambda logits: torch.full_like(logits, 1e4),
    "one_hot": lambda logits: _at(torch.zeros_like(logits), 2, 1e4),
    "one_minus_infinity": lambda logits: _at(logits, 1, -torch.inf),
    "one_plus_infinity": lambda logits: _at(logits, 1, torch.inf),
    "all_minus_infinity": lambda logits: torch.full_like(logits, -torch.inf),
    "only_one_finite": lambda logits: _at(torch.full_like(logits, -torch.inf), 3, 0.5),
    "one_nan": lambda logits: _at(logits, 1, torch.nan),
}


def _with(inputs: Inputs, **replaced: Tensor) -> Inputs:
    tensors = {**inputs.tensors, **replaced}
    return Inputs(inputs.case, tensors, inputs.masks, inputs.upstream, inputs.real).requires_grad()


def _compare(inputs: Inputs, backend: Backend) -> None:
    results, gradients = run(inputs, backend.name)
    wanted, wanted_gradients = run(inputs, "reference")
    assert_like(results, wanted)
    assert_like(gradients, wanted_gradients)


@pytest.mark.quick
@pytest.mark.parametrize("gate", ["softmax", "sigmoid"])
@pytest.mark.parametrize("masks", ["none", "all"])
@pytest.mark.parametrize("kind", _LOGITS)
def test_logits(kind: str, masks: str, gate: str, backend: Backend) -> None:
    case = Case(f"logits_{kind}", _ROW, op="couple", groups=2, gate=gate, masks=masks)
    inputs = make(case, torch.float32, backend.device)
    logits = {
        name: _LOGITS[kind](inputs.tensors[name].detach())
        for name in ("frame_logits", "joint_logits")
    }
    _compare(_with(inputs, **logits), backend)


@pytest.mark.parametrize("sign", [1, -1])
def test_softmax_of_huge_logits_is_finite(sign: int, backend: Backend) -> None:
    x = torch.ones(1, 2, 5, 6, device=backend.device)
    frames = sign * 1e4 * torch.eye(5, device=x.device)[None, :1]
    joints = sign * 1e4 * torch.eye(6, device=x.device)[None, 2:3]
    y, attention = functional.couple(x, frames, joints, return_attention=True, backend=backend.name)
    wanted = x.new_tensor([1.0, 0, 0, 0, 0] if sign > 0 else [0, 0.25, 0.25, 0.25, 0.25])
    torch.testing.assert_close(attention.frames[0, 0], wanted)
    assert y.isfinite().all()


@pytest.mark.quick
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("masks", ["none", "all"])
@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf, 1e30])
@pytest.mark.parametrize("op", ["csta", "couple", "pool"])
def test_x_that_is_not_finite(
    op: str, value: float, masks: str, layout: str, backend: Backend
) -> None:
    case = Case("not_finite", (3, 6, 9, 17), op=op, masks=masks, layout=layout,
                upstream=layout)  # fmt: skip
    inputs = make(case, torch.float32, backend.device)
    x = inputs.tensors["x"].detach().clone()
    real = inputs.real[0, 0].nonzero()[len(inputs.real[0, 0]) // 2].tolist()
    x[0, 2, real[0], real[1]] = value
    results, gradients = run(_with(inputs, x=x), backend.name)
    wanted, wanted_gradients = run(_with(inputs, x=x), "reference")
    for ours, theirs in ((results, wanted), (gradients, wanted_gradients)):
        for name, tensor in ours.items():
            assert torch.equal(tensor.isnan(), theirs[name].isnan()), name
            assert torch.equal(tensor.isinf(), theirs[name].isinf()), name
    assert_like(
        {name: tensor[1:] for name, tensor in results.items()},
        {name: tensor[1:] for name, tensor in wanted.items()},
    )


@pytest.mark.quick
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize("channels", [2, 10, 16])
def test_infinity_stays_through_many_frames(
    channels: int, layout: torch.memory_format, backend: Backend
) -> None:
    """What rounding takes off a sum goes on to the next block of frames; infinity has none."""
    x = torch.ones(1, channels, 200, 3, device=backend.device).to(memory_format=layout)
    x[0, 1, 5, 2] = torch.inf
    _, joint_means = functional.pool(x, backend=backend.name)
    wanted = x.new_ones(1, channels, 3)
    wanted[0, 1, 2] = torch.inf
    assert torch.equal(joint_means, wanted)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_sums_of_16_bit_features_do_not_overflow(dtype: torch.dtype, backend: Backend) -> None:
    x = torch.full((1, 2, 40, 30), 6e4, dtype=dtype, device=backend.device)
    frame_means, joint_means = functional.pool(x, backend=backend.name)
    assert torch.equal(frame_means, x[..., 0])
    assert torch.equal(joint_means, x[:, :, 0])


@pytest.mark.parametrize("dtype", ALL_DTYPES, ids=str)
def test_uniform_attention_is_the_identity(dtype: torch.dtype, backend: Backend) -> None:
    x = torch.randn(2, 4, 8, 16).to(backend.device, dtype)
    zeros = (torch.zeros(2, 1, length, device=x.device) for length in (8, 16))
    assert torch.equal(functional.couple(x, *zeros, backend=backend.name), x)


@pytest.mark.quick
@pytest.mark.usefixtures("native")
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
def test_reading_at_offsets_of_more_than_32_bits(layout: torch.memory_format) -> None:
    check_reading_far_away((130, 64, 8192, 32), layout, "cpu", "csta_fast")


@pytest.mark.slow
@pytest.mark.usefixtures("native")
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
def test_writing_at_offsets_of_more_than_32_bits(layout: torch.memory_format) -> None:
    samples = 2**31 // (64 * 64 * 32) + 8
    x = torch.empty(samples, 64, 64, 32, dtype=torch.bfloat16, memory_format=layout)
    tail = torch.randn(8, 64, 64, 32).bfloat16()
    x[:8], x[-8:] = tail, tail
    assert x.numel() > 2**31
    logits = torch.randn(samples, 1, 64), torch.randn(samples, 1, 32)
    means = functional.pool(x, backend="cpu")
    wanted = reference.pool(tail)
    for ours, theirs in zip(means, wanted, strict=True):
        assert torch.equal(ours[:8], ours[-8:])
        torch.testing.assert_close(ours[-8:], theirs)
    y = functional.couple(x, *logits, backend="cpu")
    last, _ = reference.couple(tail, logits[0][-8:], logits[1][-8:])
    torch.testing.assert_close(y[-8:], last)
