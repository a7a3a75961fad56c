"""Every mistake gets a message that names the argument, what was wanted and what came."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import pytest
import torch
from backends import Backend
from torch import Tensor, nn

from csta_fast import CSTA, HeadWeights, functional

X = torch.zeros(2, 6, 7, 5)
META = torch.device("meta")


def _head(groups: int = 2, hidden: int = 3, channels: int = 6, **replaced: Any) -> HeadWeights:
    head = HeadWeights(
        torch.zeros(hidden, channels), torch.zeros(hidden),
        torch.zeros(groups, hidden), torch.zeros(groups),
    )  # fmt: skip
    return head._replace(**replaced)


_CSTA: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"x": [1.0]}, TypeError, "x: wanted a tensor, got list"),
    ({"x": X[0]}, ValueError, "x: wanted 4 dimensions (N, C, T, V), got shape (6, 7, 5)"),
    ({"x": X.int()}, TypeError,
     "x: wanted float64, float32, float16 or bfloat16, got torch.int32"),
    ({"x": X.to(torch.complex64)}, TypeError, "x: wanted float64"),
    ({"x": X.to_sparse()}, TypeError, "x: wanted a dense tensor, got torch.sparse_coo"),
    ({"frame_head": None}, TypeError,
     "frame_head: wanted HeadWeights(w1, b1, w2, b2), four tensors, got NoneType"),
    ({"joint_head": _head()[:3]}, TypeError,
     "joint_head: wanted HeadWeights(w1, b1, w2, b2), four tensors, got 3 of them"),
    ({"frame_head": (*_head(), _head()[0]), "joint_head": _head()[1:]}, TypeError,
     "frame_head: wanted HeadWeights(w1, b1, w2, b2), four tensors, got 5 of them"),
    ({"frame_head": _head(w1=torch.zeros(3, 6, 1, 1, 2))}, ValueError,
     "frame_head.w1: wanted shape (H, C), got (3, 6, 1, 1, 2)"),
    ({"frame_head": _head(w1=torch.zeros(3, 6).to_sparse())}, TypeError,
     "frame_head.w1: wanted a dense tensor, got torch.sparse_coo"),
    ({"frame_head": _head(w1=1.0)}, TypeError, "frame_head.w1: wanted a tensor, got float"),
    ({"frame_head": _head(b1=None)}, TypeError, "frame_head.b1: wanted a tensor, got NoneType"),
    ({"joint_head": _head(b2=0)}, TypeError, "joint_head.b2: wanted a tensor, got int"),
    ({"frame_head": _head(w1=torch.zeros(3, 6).double())}, TypeError,
     "frame_head.w1: wanted torch.float32 for x of torch.float32, got torch.float64"),
    ({"joint_head": _head(b2=torch.zeros(2).half())}, TypeError,
     "joint_head.b2: wanted torch.float32 for x of torch.float32, got torch.float16"),
    ({"joint_head": _head(b1=torch.zeros(3, device=META))}, ValueError,
     "joint_head.b1: wanted x's device cpu, got meta"),
    ({"frame_head": _head(w2=torch.zeros(2))}, ValueError,
     "frame_head.w2: wanted shape (G, H), got (2,)"),
    ({"frame_head": _head(b1=torch.zeros(3, 1))}, ValueError,
     "frame_head.b1: wanted shape (H,), got (3, 1)"),
    ({"frame_head": _head(b2=torch.zeros(()))}, ValueError,
     "frame_head.b2: wanted shape (G,), got ()"),
    ({"x": X.permute(0, 2, 3, 1)}, ValueError,
     "x: wanted (N, C, T, V) with C = 6 of frame_head.w1, got shape (2, 7, 5, 6)"),
    ({"joint_head": _head(channels=5)}, ValueError, "with C = 5 of joint_head.w1, got shape (2, 6"),
    ({"joint_head": _head(b1=torch.zeros(4))}, ValueError,
     "joint_head: wanted w1 (H, C), b1 (H,), w2 (G, H), b2 (G,) with C = 6 channels of x, "
     "got {'w1': (3, 6), 'b1': (4,)"),
    ({"joint_head": _head(groups=3)}, ValueError,
     "joint_head: wanted as many groups G as frame_head, got 3 beside 2"),
    ({"frame_head": _head(groups=4), "joint_head": _head(groups=4)}, ValueError,
     "frame_head: wanted a number of groups G that divides the 6 channels of x, got 4"),
    ({"frame_head": _head(groups=0), "joint_head": _head(groups=0)}, ValueError,
     "that divides the 6 channels of x, got 0"),
]  # fmt: skip

_MASKS: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"lengths": [7, 7]}, TypeError, "lengths: wanted a tensor of torch.int64, got list"),
    ({"lengths": torch.tensor([7, 7], dtype=torch.int32)}, TypeError,
     "lengths: wanted a tensor of torch.int64, got torch.int32"),
    ({"lengths": torch.tensor([7, 7], device=META)}, ValueError,
     "lengths: wanted x's device cpu, got meta"),
    ({"lengths": torch.ones(2, 2, 2, 2, 3, dtype=torch.int64)}, ValueError,
     "lengths: wanted shape (N,) = (2,), got (2, 2, 2, 2, 3)"),
    ({"joint_mask": torch.ones(2, 2, 2, 2, 2, 3, dtype=torch.bool)}, ValueError,
     "joint_mask: wanted shape (N, V) = (2, 5) or (V,) = (5,), got (2, 2, 2, 2, 2, 3)"),
    ({"joint_mask": torch.ones(5, dtype=torch.bool).to_sparse()}, TypeError,
     "joint_mask: wanted a dense tensor, got torch.sparse_coo"),
    ({"lengths": torch.tensor([7, 7, 7])}, ValueError,
     "lengths: wanted shape (N,) = (2,), got (3,)"),
    ({"frame_mask": torch.ones(2, 7)}, TypeError,
     "frame_mask: wanted a tensor of torch.bool, got torch.float32"),
    ({"frame_mask": torch.ones(7).bool()}, ValueError,
     "frame_mask: wanted shape (N, T) = (2, 7), got (7,)"),
    ({"joint_mask": torch.ones(2, 7).bool()}, ValueError,
     "joint_mask: wanted shape (N, V) = (2, 5) or (V,) = (5,), got (2, 7)"),
    ({"joint_mask": torch.ones(3, 5, dtype=torch.bool)}, ValueError,
     "joint_mask: wanted shape (N, V) = (2, 5) or (V,) = (5,), got (3, 5)"),
    ({"joint_mask": torch.ones(6).bool()}, ValueError,
     "joint_mask: wanted shape (N, V) = (2, 5) or (V,) = (5,), got (6,)"),
    ({"joint_mask": torch.ones(5, device=META).bool()}, ValueError,
     "joint_mask: wanted x's device cpu, got meta"),
]  # fmt: skip

_OPTIONS: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"gate": "relu"}, ValueError, "gate: wanted 'softmax' or 'sigmoid', got 'relu'"),
    ({"gate": ["softmax"]}, ValueError, "gate: wanted 'softmax' or 'sigmoid', got ['softmax']"),
    ({"residual": 0.5}, TypeError, "residual: wanted True or False, got 0.5"),
    ({"scale": "max"}, ValueError, "scale: wanted 'mean', 'sum' or a finite number, got 'max'"),
    ({"scale": None}, ValueError, "scale: wanted 'mean', 'sum' or a finite number, got None"),
    ({"scale": True}, ValueError, "scale: wanted 'mean', 'sum' or a finite number, got True"),
    ({"scale": math.nan}, ValueError, "scale: wanted 'mean', 'sum' or a finite number, got nan"),
    ({"scale": 10**400}, ValueError, "scale: wanted 'mean', 'sum' or a finite number, got 1000"),
    ({"scale": -math.inf}, ValueError, "scale: wanted 'mean', 'sum' or a finite number, got -inf"),
    ({"backend": "gpu"}, ValueError,
     "backend: wanted one of cpu, cuda, triton, reference, got 'gpu'"),
    ({"backend": ["cpu"]}, ValueError, "triton, reference, got ['cpu']"),
]  # fmt: skip

_COUPLE: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"frame_logits": torch.zeros(2, 2, 7, 1, 1)}, ValueError,
     "frame_logits: wanted shape (N, G, T) = (2, G, 7), got (2, 2, 7, 1, 1)"),
    ({"frame_logits": None}, TypeError,
     "frame_logits: wanted a floating-point tensor, got NoneType"),
    ({"joint_logits": torch.zeros(2, 2, 5).int()}, TypeError,
     "joint_logits: wanted a floating-point tensor, got torch.int32"),
    ({"frame_logits": torch.zeros(2, 2, 7, device=META)}, ValueError,
     "frame_logits: wanted x's device cpu, got meta"),
    ({"frame_logits": torch.zeros(2, 2, 6)}, ValueError,
     "frame_logits: wanted shape (N, G, T) = (2, G, 7), got (2, 2, 6)"),
    ({"joint_logits": torch.zeros(1, 2, 5)}, ValueError,
     "joint_logits: wanted shape (N, G, V) = (2, G, 5), got (1, 2, 5)"),
    ({"joint_logits": torch.zeros(2, 5)}, ValueError,
     "joint_logits: wanted shape (N, G, V) = (2, G, 5), got (2, 5)"),
    ({"joint_logits": torch.zeros(2, 1, 5)}, ValueError,
     "joint_logits: wanted as many groups G as frame_logits, got 1 beside 2"),
    ({"frame_logits": torch.zeros(2, 4, 7), "joint_logits": torch.zeros(2, 4, 5)}, ValueError,
     "frame_logits: wanted a number of groups G that divides the 6 channels of x, got 4"),
]  # fmt: skip


def _csta(**replaced: Any) -> Any:
    return functional.csta(**{"x": X, "frame_head": _head(), "joint_head": _head(), **replaced})


def _couple(**replaced: Any) -> Any:
    logits = {"frame_logits": torch.zeros(2, 2, 7), "joint_logits": torch.zeros(2, 2, 5)}
    return functional.couple(**{"x": X, **logits, **replaced})


def _pool(**replaced: Any) -> Any:
    return functional.pool(**{"x": X, **replaced})


_WRONG = [
    *((_csta, *mistake) for mistake in _CSTA + _MASKS + _OPTIONS),
    *((_couple, *mistake) for mistake in _CSTA[:5] + _COUPLE + _MASKS + _OPTIONS),
    *((_pool, *mistake) for mistake in _CSTA[:5] + _MASKS + _OPTIONS[-2:]),
]


@pytest.mark.quick
@pytest.mark.parametrize(
    ("call", "arguments", "error", "message"),
    _WRONG,
    ids=[f"{call.__name__}-{'-'.join(given)}-{i}" for i, (call, given, *_) in enumerate(_WRONG)],
)
def test_mistake(call: Any, arguments: dict, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=re.escape(message)):
        call(**arguments)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"channels": 6.0}, TypeError, "channels: wanted a whole number, got 6.0"),
        ({"channels": 0}, ValueError, "channels: wanted at least 1, got 0"),
        ({"hidden": "8"}, TypeError, "hidden: wanted a whole number, got '8'"),
        ({"groups": True}, TypeError, "groups: wanted a whole number, got True"),
        ({"groups": 4}, ValueError, "groups: wanted a divisor of the 6 channels, got 4"),
        ({"frame_head": torch.relu}, TypeError, "frame_head: wanted a module, got builtin"),
        *_OPTIONS,
    ],
)
def test_a_layer_refuses_when_it_is_made(
    arguments: dict, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=re.escape(message)):
        CSTA(**{"channels": 6, **arguments})


def test_numbers_of_numpy_are_numbers() -> None:
    layer = CSTA(np.int64(6), np.int32(4), scale=np.float32(0.5))
    assert torch.equal(layer(X + 1), CSTA(6, 4, scale=0.5)(X + 1))


@pytest.mark.parametrize(
    ("heads", "x", "message"),
    [
        ({"frame_head": nn.Conv1d(6, 1, 3)}, X, "frame_head: wanted it to give (N, G, L) = "
         "(2, 1, 7), got (2, 1, 5)"),
        ({"joint_head": nn.Conv1d(6, 2, 1)}, X, "joint_head: wanted it to give (N, G, L) = "
         "(2, 1, 5), got (2, 2, 5)"),
        ({"frame_head": nn.LSTM(7, 7)}, X, "frame_head: wanted it to give (N, G, L) = (2, 1, 7), "
         "got tuple"),
        ({"joint_head": nn.Conv1d(6, 1, 1)}, X[:, :3],
         "x: wanted (N, C, T, V) with C = 6 of the layer, got shape (2, 3, 7, 5)"),
    ],
)  # fmt: skip
def test_heads_of_the_users_own_are_held_to_their_shapes(
    heads: dict[str, nn.Module], x: Tensor, message: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        CSTA(6, **heads)(x)


_FAR_AWAY = 2**40


@pytest.mark.quick
@pytest.mark.parametrize("call", [_csta, _couple, _pool])
@pytest.mark.parametrize("lengths", [[7, 8], [7, -1], [0, _FAR_AWAY]])
def test_lengths_out_of_range(call: Any, lengths: list[int], backend: Backend) -> None:
    message = f"lengths: wanted 0 to T = 7, got {lengths[1]} for sample 1"
    with pytest.raises(ValueError, match=message):
        call(lengths=torch.tensor(lengths), backend=backend.name)


@pytest.mark.quick
@pytest.mark.usefixtures("native")
def test_the_library_itself_looks_at_lengths() -> None:
    with pytest.raises(RuntimeError, match="lengths: wanted 0 to T = 7, got 8 for sample 0"):
        torch.ops.csta_fast.pool(X, torch.tensor([8, 7]), None, None)


def test_16_bit_features_take_weights_of_either_dtype(backend: Backend) -> None:
    x = X.to(backend.device, torch.float16)
    wide = HeadWeights(*(each.to(x.device) for each in _head()))
    narrow = HeadWeights(*(each.half() for each in wide))
    for frame_head, joint_head in ((wide, narrow), (narrow, wide), (wide, wide), (narrow, narrow)):
        y = functional.csta(x, frame_head, joint_head, backend=backend.name)
        assert y.dtype is torch.float16
    with pytest.raises(TypeError, match=r"wanted torch.float16 or torch.float32 for x of"):
        functional.csta(x, HeadWeights(*(each.double() for each in wide)), wide)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
def test_logits_of_any_floating_dtype(dtype: torch.dtype, backend: Backend) -> None:
    device = backend.device
    logits = [torch.randn(2, 2, n).to(device, dtype).requires_grad_() for n in (7, 5)]
    x = torch.randn(2, 6, 7, 5, device=device, requires_grad=True)
    gradients: list[tuple[Tensor, ...]] = []
    for which in (backend.name, "reference"):
        y = functional.couple(x, *logits, backend=which)
        assert y.dtype is torch.float32
        gradients.append(torch.autograd.grad(y.square().sum(), [x, *logits]))
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
