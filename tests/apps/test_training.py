"""What training loops do to a layer: checkpoints, autocast, copies, frozen parts, no gradients."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from backends import Backend
from cases import Case, named
from contract import assert_like, run
from inputs import WEIGHT_NAMES, make
from torch import Tensor, nn
from torch.utils.checkpoint import (
    CheckpointPolicy,
    checkpoint,
    create_selective_checkpoint_contexts,
)

from csta_fast import CSTA


def _layer(backend: Backend, **options: Any) -> CSTA:
    layer = CSTA(8, hidden=5, backend=backend.name, **options)
    for parameter in layer.parameters():
        nn.init.normal_(parameter, std=0.5)
    return layer.to(backend.device)


def _features(backend: Backend) -> Tensor:
    return torch.randn(3, 8, 9, 17, device=backend.device)


def _gradients(y: Tensor, x: Tensor, layer: nn.Module) -> list[Tensor]:
    return list(torch.autograd.grad(y.square().sum(), [x, *layer.parameters()]))


def _assert_equal(ours: list[Tensor], theirs: list[Tensor]) -> None:
    for one, other in zip(ours, theirs, strict=True):
        assert torch.equal(one, other)


def _saving(operation: Any) -> Callable[..., CheckpointPolicy]:
    def policy(context: Any, called: Any, *_: Any, **__: Any) -> CheckpointPolicy:
        kept = called == operation
        return CheckpointPolicy.MUST_SAVE if kept else CheckpointPolicy.PREFER_RECOMPUTE

    return policy


def test_checkpoint(backend: Backend) -> None:
    layer, x = _layer(backend), _features(backend).requires_grad_()
    plain = _gradients(layer(x), x, layer)
    _assert_equal(_gradients(checkpoint(layer, x, use_reentrant=False), x, layer), plain)


@pytest.mark.usefixtures("native")
@pytest.mark.parametrize("kept", [True, False])
def test_selective_checkpoint_can_keep_the_operation(kept: bool) -> None:
    operation = torch.ops.csta_fast.csta.default
    runs = 0

    class Counter(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            nonlocal runs
            runs += function is operation
            return function(*args, **(kwargs or {}))

    weights = [each.detach() for each in list(make(named("odd"), torch.float32).tensors.values())]
    x, *weights = (each.requires_grad_() for each in weights)
    policy = _saving(operation if kept else None)
    contexts = partial(create_selective_checkpoint_contexts, policy)

    def call(x: Tensor) -> Tensor:
        y, _, _ = operation(2 * x, *weights, None, None, None, 0, None, False)
        return y.sin()

    wanted = torch.autograd.grad(call(x).sum(), [x, *weights])
    with Counter():
        y = checkpoint(call, x, use_reentrant=False, context_fn=contexts)
        gradients = torch.autograd.grad(y.sum(), [x, *weights])
    _assert_equal(list(gradients), list(wanted))
    assert runs == (1 if kept else 2)


def test_autocast_keeps_x_in_its_dtype(backend: Backend) -> None:
    layer, conv = _layer(backend), nn.Conv2d(3, 8, 1).to(backend.device)
    x = torch.randn(3, 3, 9, 17, device=backend.device, requires_grad=True)
    with torch.autocast(backend.device, torch.bfloat16):
        features = conv(x)
        assert features.dtype is torch.bfloat16
        y, attention = layer(features, return_attention=True)
        from_float = layer(_features(backend))
    assert y.dtype is torch.bfloat16
    assert attention.frames.dtype is attention.joints.dtype is torch.float32
    assert from_float.dtype is torch.float32
    y.float().square().sum().backward()
    assert all(each.grad.dtype is torch.float32 for each in (x, *layer.parameters()))
    assert all(each.grad.isfinite().all() for each in (x, *layer.parameters()))


def test_autocast_changes_no_number(backend: Backend) -> None:
    for dtype in (torch.float32, torch.bfloat16):
        inputs = make(named("two_groups"), dtype, backend.device)
        plain, plain_gradients = run(inputs, backend.name)
        with torch.autocast(backend.device, torch.bfloat16):
            results = inputs.call(backend.name)
        assert_like(results, plain, units=0)
        assert_like(inputs.gradients(results), plain_gradients, units=0)


def test_own_heads_under_autocast(backend: Backend) -> None:
    layer = _layer(backend, frame_head=nn.Conv1d(8, 1, 3, padding=1))
    x = _features(backend).requires_grad_()
    with torch.autocast(backend.device, torch.bfloat16):
        y = layer(x)
    assert y.dtype is torch.float32
    y.sum().backward()
    assert x.grad is not None


@pytest.mark.quick
@pytest.mark.parametrize("name", ["two_groups", "masks_all", "last_odd", "couple_odd"])
def test_only_some_gradients_are_wanted(name: str, backend: Backend) -> None:
    inputs = make(named(name), torch.float32, backend.device)
    results, gradients = run(inputs, backend.name)
    wanted = [("x",), tuple(inputs.tensors)[1:], tuple(inputs.tensors)[1:2]]
    for names in wanted:
        few = inputs.requires_grad(names)
        again = few.call(backend.name)
        assert_like(again, results, units=8)
        differentiable = [name for name, each in again.items() if each.requires_grad]
        upstream = dict(zip(again, few.upstream, strict=True))
        found = torch.autograd.grad(
            [again[name] for name in differentiable],
            [few.tensors[name] for name in names],
            [upstream[name] for name in differentiable],
        )
        assert_like(dict(zip(names, found, strict=True)), gradients, units=8)


@pytest.mark.quick
@pytest.mark.parametrize("used", [("y",), ("frame_attention",), ("joint_attention",),
                                  ("frame_attention", "joint_attention")])  # fmt: skip
@pytest.mark.parametrize("op", ["csta", "couple"])
def test_only_some_results_are_used(op: str, used: tuple[str, ...], backend: Backend) -> None:
    case = Case("partly_used", (3, 6, 9, 17), op=op, groups=2)
    inputs = make(case, torch.float64, backend.device)
    gradients = {}
    for which in (backend.name, "reference"):
        results = inputs.call(which)
        upstream = dict(zip(results, inputs.upstream, strict=True))
        found = torch.autograd.grad(
            [results[name] for name in used],
            list(inputs.tensors.values()),
            [upstream[name] for name in used],
            allow_unused=True,
        )
        gradients[which] = {
            name: torch.zeros_like(tensor) if each is None else each
            for (name, tensor), each in zip(inputs.tensors.items(), found, strict=True)
        }
    assert_like(gradients[backend.name], gradients["reference"])


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_without_gradients(mode: Callable[[], Any], backend: Backend) -> None:
    layer, x = _layer(backend), _features(backend)
    wanted, means = layer(x), make(named("pool_odd"), torch.float32, backend.device)
    with mode():
        y = layer(x)
        assert_like(means.call(backend.name), means.call("reference"))
    assert not y.requires_grad
    assert torch.equal(y, wanted)


@pytest.mark.parametrize("clone", [
    copy.deepcopy,
    lambda layer: pickle.loads(pickle.dumps(layer)),
])  # fmt: skip
def test_copies(clone: Callable[[CSTA], CSTA], backend: Backend) -> None:
    layer = _layer(backend, groups=2, gate="sigmoid", scale=0.5, residual=True)
    other, x = clone(layer), _features(backend)
    assert repr(other) == repr(layer)
    assert torch.equal(other(x), layer(x))


def test_state_dict_names_and_files(backend: Backend) -> None:
    layer, fresh = _layer(backend), _layer(backend)
    assert tuple(layer.state_dict()) == WEIGHT_NAMES
    file = io.BytesIO()
    torch.save(layer.state_dict(), file)
    file.seek(0)
    fresh.load_state_dict(torch.load(file, weights_only=True))
    x = _features(backend)
    assert torch.equal(fresh(x), layer(x))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16], ids=str)
def test_layer_in_another_dtype(dtype: torch.dtype, backend: Backend) -> None:
    layer = _layer(backend).to(dtype)
    x = _features(backend).to(dtype).requires_grad_()
    gradients = _gradients(layer(x).double(), x, layer)
    assert all(each.dtype is dtype for each in gradients)


def test_gradient_descent_approaches_a_teacher(backend: Backend) -> None:
    layer, teacher, x = _layer(backend), _layer(backend), _features(backend)
    target = teacher(x).detach()
    optimiser = torch.optim.Adam(layer.parameters(), lr=1e-2)
    losses = []
    for _ in range(20):
        loss = (layer(x) - target).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]
