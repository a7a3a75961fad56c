"""torch.func over the operations: vmap, grad, jacrev, Hessian products, double backward."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from backends import Backend
from cases import Case
from contract import assert_like
from inputs import WEIGHT_NAMES, Inputs, make
from torch import Tensor
from torch.autograd import forward_ad
from torch.func import functional_call, grad, hessian, jacrev, jvp, vjp, vmap

from csta_fast import CSTA, HeadWeights, functional

_CASE = Case("transforms", (3, 4, 5, 6), groups=2, hidden=3)


def _energy(x: Tensor, weights: dict[str, Tensor], backend: str | None) -> Tensor:
    heads = [weights[name] for name in WEIGHT_NAMES]
    y, attention = functional.csta(
        x, HeadWeights(*heads[:4]), HeadWeights(*heads[4:]), return_attention=True, backend=backend
    )
    return (y**3).sum() + attention.frames.square().sum()


def _given(backend: Backend) -> tuple[Tensor, dict[str, Tensor]]:
    inputs = make(_CASE, torch.float64, backend.device)
    tensors = {name: each.detach() for name, each in inputs.tensors.items()}
    return tensors.pop("x"), tensors


def test_grad_and_per_sample_grad(backend: Backend) -> None:
    x, weights = _given(backend)

    def of_weights(sample: Tensor) -> dict[str, Tensor]:
        return grad(lambda w: _energy(sample[None], w, backend.name))(weights)

    leaves = {name: each.clone().requires_grad_() for name, each in weights.items()}
    whole = torch.autograd.grad(_energy(x, leaves, backend.name), list(leaves.values()))
    per_sample = vmap(of_weights)(x)
    assert_like(
        {name: each.sum(0) for name, each in per_sample.items()},
        dict(zip(leaves, whole, strict=True)),
    )


@pytest.mark.quick
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("op", ["csta", "couple", "pool"])
def test_vmap_equals_a_loop(op: str, axis: int, backend: Backend) -> None:
    case = Case("vmap", (3, 4, 5, 6), op=op, groups=2 if op != "pool" else 1)
    inputs = make(case, torch.float64, backend.device)
    others = [tensor.detach() for tensor in list(inputs.tensors.values())[1:]]

    def call(x: Tensor) -> tuple[Tensor, ...]:
        given = dict(zip(inputs.tensors, (x, *others), strict=True))
        return tuple(Inputs(inputs.case, given, inputs.masks, (), inputs.real)
                     .call(backend.name).values())  # fmt: skip

    many = torch.randn(2, 3, 4, 5, 6, dtype=torch.float64, device=backend.device).movedim(0, axis)
    mapped = vmap(call, in_dims=axis)(many)
    looped = [call(x) for x in many.unbind(axis)]
    for ours, theirs in zip(mapped, zip(*looped, strict=True), strict=True):
        torch.testing.assert_close(ours, torch.stack(theirs))


def test_vmap_over_nothing(backend: Backend) -> None:
    x, weights = _given(backend)
    heads = [weights[name] for name in WEIGHT_NAMES]

    def call(x: Tensor) -> tuple[Tensor, ...]:
        means = functional.pool(x, backend=backend.name)
        head = HeadWeights(*heads[:4])
        return functional.csta(x, head, HeadWeights(*heads[4:]), backend=backend.name), *means

    nothing = vmap(call, in_dims=1)(x[:, None][:, :0])
    assert [each.shape for each in nothing] == [(0, *each.shape) for each in call(x)]


@pytest.mark.quick
def test_forward_mode_is_plain_pytorchs(backend: Backend) -> None:
    """Of itself; no fused backend has tangents, or drops them."""
    x, weights = _given(backend)
    tangent = torch.randn_like(x)

    def energy(which: str | None) -> Callable[[Tensor], Tensor]:
        return lambda x: _energy(x, weights, which)

    _, wanted = jvp(energy("reference"), (x,), (tangent,))
    assert wanted.abs() > 0
    if x.is_cpu:
        _, found = jvp(energy(None), (x,), (tangent,))
        torch.testing.assert_close(found, wanted)
        with forward_ad.dual_level():
            dual = forward_ad.make_dual(x, tangent)
            _, found = forward_ad.unpack_dual(energy(None)(dual))
        torch.testing.assert_close(found, wanted)
    if backend.name in ("cpu", "triton", "cuda"):  # the emulator's own refusal is another
        with pytest.raises(ValueError, match="no forward-mode derivatives"):
            jvp(energy(backend.name), (x,), (tangent,))


def test_jacobian(backend: Backend) -> None:
    x, weights = _given(backend)

    def attention(x: Tensor) -> Tensor:
        heads = [weights[name] for name in WEIGHT_NAMES]
        _, attention = functional.csta(
            x, HeadWeights(*heads[:4]), HeadWeights(*heads[4:]), return_attention=True,
            backend=backend.name,
        )  # fmt: skip
        # Each number is one more call: in an interpreter, fewer do.
        return attention.joints[..., 1:3] if backend.interpreted else attention.joints

    ours = jacrev(attention)(x)
    theirs = torch.autograd.functional.jacobian(attention, x)
    torch.testing.assert_close(ours, theirs)
    assert ours.abs().max() > 0


def test_hessian_vector_products(backend: Backend) -> None:
    x, weights = _given(backend)
    direction = torch.randn_like(x)

    def gradient(which: str) -> Tensor:
        return grad(lambda x: _energy(x, weights, which))

    _, pull_back = vjp(gradient(backend.name), x)
    _, wanted = jvp(gradient("reference"), (x,), (direction,))  # the Hessian is symmetric
    torch.testing.assert_close(pull_back(direction)[0], wanted)


def test_hessian_of_a_bias(backend: Backend) -> None:
    x, weights = _given(backend)

    def energy(bias: Tensor, which: str) -> Tensor:
        return _energy(x, {**weights, "frame_head.b1": bias}, which)

    ours = jacrev(jacrev(lambda bias: energy(bias, backend.name)))(weights["frame_head.b1"])
    wanted = hessian(lambda bias: energy(bias, "reference"))(weights["frame_head.b1"])
    torch.testing.assert_close(ours, wanted)
    assert wanted.abs().max() > 0


def test_autocast_rounds_no_second_derivative() -> None:
    layer, x = CSTA(8), torch.randn(2, 8, 5, 6)
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter)

    def curvature() -> Tensor:
        return grad(lambda x: grad(lambda x: layer(x).pow(3).sum())(x).square().sum())(x)

    wanted = curvature()
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(curvature(), wanted)


@pytest.mark.quick
@pytest.mark.parametrize("masks", ["none", "all"])
@pytest.mark.parametrize("op", ["csta", "couple", "pool"])
def test_double_backward_is_plain_pytorchs(op: str, masks: str, backend: Backend) -> None:
    case = Case("twice", (3, 4, 9, 6), op=op, masks=masks)
    inputs = make(case, torch.float64, backend.device)
    twice = {}
    for which in (backend.name, "reference"):
        given = inputs.requires_grad()
        upstream = [u.nan_to_num().clone().requires_grad_() for u in given.upstream]
        tensors = list(given.tensors.values())
        first = torch.autograd.grad(
            list(given.call(which).values()), tensors, upstream, create_graph=True
        )
        energy = sum((each.nan_to_num() ** 2).sum() for each in first)
        second = torch.autograd.grad(energy, [*tensors, *upstream], allow_unused=True)
        names = [*given.tensors, *(f"upstream {i}" for i in range(len(upstream)))]
        twice[which] = {
            name: tensors[0].new_zeros(()) if each is None else each
            for name, each in zip(names, second, strict=True)
        }
    assert_like(twice[backend.name], twice["reference"])


def test_third_derivative(backend: Backend) -> None:
    x, weights = _given(backend)
    leaf = x.clone().requires_grad_()
    value = _energy(leaf, weights, backend.name)
    plain = x.clone().requires_grad_()
    wanted = _energy(plain, weights, "reference")
    for _ in range(3):
        (value,) = torch.autograd.grad(value.sum(), leaf, create_graph=True)
        (wanted,) = torch.autograd.grad(wanted.sum(), plain, create_graph=True)
    torch.testing.assert_close(value, wanted)


def test_layer_under_functional_call(backend: Backend) -> None:
    layer = CSTA(4, hidden=3, backend=backend.name).to(backend.device, torch.float64)
    x, _ = _given(backend)
    stacked = {
        name: torch.randn(2, *each.shape, dtype=torch.float64, device=each.device)
        for name, each in layer.named_parameters()
    }
    ensemble = vmap(lambda parameters: functional_call(layer, parameters, (x,)))(stacked)
    for member in range(2):
        parameters = {name: each[member] for name, each in stacked.items()}
        torch.testing.assert_close(ensemble[member], functional_call(layer, parameters, (x,)))
