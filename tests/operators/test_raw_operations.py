"""``torch.ops.csta_fast*`` called directly: what does not fit is an error, and is let go of."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
import torch
from backends import Backend
from cases import Case
from inputs import make
from torch import Tensor

_NAMESPACES = {
    "cpu": "csta_fast",
    "cuda": "csta_fast_cuda",
    "cuda-emulated": "csta_fast_emulated",
    "triton": "csta_fast_triton",
}
_MASKS = (None, None, None)
_CHOICES = (0, None, False)
_GATE, _SCALE = -3, -2  # from the end of a forward's arguments


def _calls(backend: Backend) -> dict[str, list[Any]]:
    """Arguments of every operation that are right."""
    csta, couple = (
        list(
            make(Case("raw", (2, 6, 5, 7), op=op, groups=2), torch.float32, "cpu").tensors.values()
        )
        for op in ("csta", "couple")
    )
    csta, couple = (
        [each.detach().to(backend.device) for each in given] for given in (csta, couple)
    )
    x, frames, joints = couple
    means = [x.mean(3), x.mean(2)]
    gradients = [x, frames, joints, x]
    return {
        "csta": [*csta, *_MASKS, *_CHOICES],
        "couple": [*couple, *_MASKS, *_CHOICES],
        "pool": [x, *_MASKS],
        "csta_backward": [*gradients, *csta[1:], frames, joints, *_MASKS, *_CHOICES, True],
        "couple_backward": [*gradients, frames, joints, frames, joints, *_MASKS, *_CHOICES, True],
        "pool_backward": [*means, *_MASKS, False],
    }


def _operation(backend: Backend, name: str) -> Callable[..., Any]:
    if backend.name not in _NAMESPACES:
        pytest.skip("plain PyTorch has no operations of its own")
    found: Callable[..., Any] = getattr(getattr(torch.ops, _NAMESPACES[backend.name]), name).default
    return found


@pytest.mark.quick
@pytest.mark.parametrize("name", ["csta", "couple", "csta_backward", "couple_backward"])
@pytest.mark.parametrize("wrong", [{"gate": 7}, {"gate": -1}, {"scale": float("nan")},
                                   {"scale": float("inf")}], ids=str)  # fmt: skip
def test_choices_are_checked(name: str, wrong: dict[str, Any], backend: Backend) -> None:
    operation, arguments = _operation(backend, name), _calls(backend)[name]
    operation(*arguments)
    from_end = 1 if name.endswith("backward") else 0
    for choice, value in wrong.items():
        arguments[(_GATE if choice == "gate" else _SCALE) - from_end] = value
        with pytest.raises((RuntimeError, ValueError), match=choice):
            operation(*arguments)


def _misfits(tensor: Tensor) -> list[Tensor]:
    """Tensors that cannot stand where this one does."""
    shape = list(tensor.shape)
    found = [tensor.new_zeros(shape[:axis] + shape[axis + 1 :]) for axis in range(len(shape))]
    for axis, size in enumerate(shape):
        for other in (size + 1, max(0, size - 1)):
            found.append(tensor.new_zeros([*shape[:axis], other, *shape[axis + 1 :]]))
    return [*found, tensor.new_zeros(shape, dtype=torch.int64), tensor.new_zeros([1, *shape])]


@pytest.mark.parametrize(
    "name", ["csta", "couple", "pool", "csta_backward", "couple_backward", "pool_backward"]
)
def test_one_tensor_that_does_not_fit_is_an_error(name: str, backend: Backend) -> None:
    operation, arguments = _operation(backend, name), _calls(backend)[name]
    places = [i for i, each in enumerate(arguments) if isinstance(each, Tensor)]
    for place in places:
        if name == "pool" or (name == "pool_backward" and place == 0):
            continue  # any x fits, and another length of either means
        for misfit in _misfits(arguments[place]):
            wrong = [misfit if i == place else each for i, each in enumerate(arguments)]
            if _fits_after_all(name, place, misfit, arguments):
                continue
            with pytest.raises((RuntimeError, TypeError, ValueError)):
                operation(*wrong)


def _fits_after_all(name: str, place: int, misfit: Tensor, arguments: list[Any]) -> bool:
    if name == "pool_backward":  # joints may be any number
        return misfit.dim() == 3 and misfit.shape[:2] == arguments[1].shape[:2] and (
            misfit.dtype == arguments[1].dtype)  # fmt: skip
    # Any number of samples, frames and joints goes with a head's weights.
    return name == "csta" and place == 0 and misfit.dim() == 4 and (
        misfit.shape[1] == arguments[0].shape[1] and misfit.is_floating_point())  # fmt: skip


@pytest.mark.parametrize("seed", range(4))
def test_random_misfits(seed: int, backend: Backend) -> None:
    """Whatever comes, it is an error or a result, and no tensor is kept alive."""
    calls = _calls(backend)
    pool = [each for given in calls.values() for each in given if isinstance(each, Tensor)]
    pool += [pool[0].double(), pool[0].bool(), pool[1][..., :0], pool[0].mT, pool[0][None]]
    uses = []
    for _ in range(2):
        _call_with_misfits(random.Random(seed), calls, pool, backend)
        uses.append([tensor._use_count() for tensor in pool])
    assert uses[0] == uses[1]


def _call_with_misfits(
    drawn: random.Random, calls: dict[str, list[Any]], pool: list[Tensor], backend: Backend
) -> None:
    for _ in range(40 if backend.interpreted else 400):
        name = drawn.choice(list(calls))
        arguments = list(calls[name])
        for _ in range(drawn.randint(1, 3)):
            place = drawn.randrange(len(arguments))
            if arguments[place] is None or isinstance(arguments[place], Tensor):
                arguments[place] = drawn.choice([None, *pool])
        with suppress(RuntimeError, TypeError, ValueError):
            _operation(backend, name)(*arguments)
