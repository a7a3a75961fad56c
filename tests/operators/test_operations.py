"""The operations as PyTorch's own tools see them: opcheck, fake tensors, FLOPs, transforms."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from backends import ALL_DTYPES
from cases import CASES, FEW_CASES, Case, named
from contract import assert_like, run
from inputs import Inputs, make
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from csta_fast import HeadWeights, backends, functional
from csta_fast.operators.signature import SIGNATURES
from csta_fast.types import GATE_CODES

pytestmark = pytest.mark.usefixtures("native")

#: What opcheck can tell without compiling; the rest is for the few cases.
_QUICK_CHECKS = ("test_schema", "test_faketensor", "test_autograd_registration")
_SMALL_CASES = [case for case in CASES if math.prod(case.shape) <= 20_000]


def _forward_arguments(inputs: Inputs) -> tuple[Any, ...]:
    case = inputs.case
    arguments = (*inputs.tensors.values(), *inputs.masks.values())
    if case.op == "pool":
        return arguments
    scale = {"mean": None, "sum": 1.0}.get(case.scale, case.scale)  # type: ignore[call-overload]
    return (*arguments, GATE_CODES[case.gate], scale, case.residual)


def _backward_arguments(inputs: Inputs) -> tuple[Any, ...]:
    case, masks = inputs.case, tuple(inputs.masks.values())
    upstream = tuple(each.detach() for each in inputs.upstream)
    if case.op == "pool":
        return (*upstream, *masks, case.layout == "channels_last")
    results = inputs.call("cpu")
    attention = (results["frame_attention"].detach(), results["joint_attention"].detach())
    x, *others = (tensor.detach() for tensor in inputs.tensors.values())
    options = _forward_arguments(inputs)[-3:]
    if case.op == "couple":
        return (*upstream, x, *attention, *others, *masks, *options, True)
    return (*upstream, x, *others, *attention, *masks, *options, True)


def _finite(inputs: Inputs) -> Inputs:
    """opcheck compares results with ==, which NaN in the padding would fail."""
    tensors = {name: tensor.detach() for name, tensor in inputs.tensors.items()}
    if tensors["x"].isnan().any():
        tensors["x"].nan_to_num_(0.25)
    for gradient in inputs.upstream:
        if gradient.isnan().any():
            gradient.nan_to_num_(0.5)
    return Inputs(inputs.case, tensors, inputs.masks, inputs.upstream, inputs.real).requires_grad()


_CHOICES_AND_MASKS = (
    "Tensor? lengths, Tensor? frame_mask, Tensor? joint_mask, int gate, float? scale, bool residual"
)
_WEIGHTS = (
    "Tensor frame_w1, Tensor frame_b1, Tensor frame_w2, Tensor frame_b2, "
    "Tensor joint_w1, Tensor joint_b1, Tensor joint_w2, Tensor joint_b2"
)
_UPSTREAM = "Tensor? grad_y, Tensor? grad_frame_attention, Tensor? grad_joint_attention, Tensor x"
_SCHEMAS = {
    "csta": f"(Tensor x, {_WEIGHTS}, {_CHOICES_AND_MASKS}) -> (Tensor, Tensor, Tensor)",
    "csta_backward": f"({_UPSTREAM}, {_WEIGHTS}, Tensor frame_attention, Tensor joint_attention, "
    f"{_CHOICES_AND_MASKS}, bool input_gradient) -> ({', '.join(['Tensor'] * 9)})",
    "couple": "(Tensor x, Tensor frame_logits, Tensor joint_logits, "
    f"{_CHOICES_AND_MASKS}) -> (Tensor, Tensor, Tensor)",
    "couple_backward": f"({_UPSTREAM}, Tensor frame_attention, Tensor joint_attention, "
    f"Tensor frame_logits, Tensor joint_logits, {_CHOICES_AND_MASKS}, bool input_gradient)"
    " -> (Tensor, Tensor, Tensor)",
    "pool": "(Tensor x, Tensor? lengths, Tensor? frame_mask, Tensor? joint_mask)"
    " -> (Tensor, Tensor)",
    "pool_backward": "(Tensor grad_frame_means, Tensor grad_joint_means, Tensor? lengths, "
    "Tensor? frame_mask, Tensor? joint_mask, bool channels_last) -> Tensor",
}


@pytest.mark.parametrize("name", _SCHEMAS)
def test_schemas_are_those_of_exported_programs(name: str) -> None:
    """A program that was exported holds them: another order would break it, or worse."""
    assert str(getattr(torch.ops.csta_fast, name).default._schema) == (
        f"csta_fast::{name}{_SCHEMAS[name]}"
    )
    assert SIGNATURES.keys() == _SCHEMAS.keys()


@pytest.mark.parametrize("name", _SCHEMAS)
def test_named_inputs_and_flat_arguments(name: str) -> None:
    signature = SIGNATURES[name]
    flat = tuple(signature.names)
    inputs = signature.unflatten(flat)
    assert tuple(signature.flatten(inputs)) == flat
    assert signature.gradients(**inputs._asdict()) == list(flat)
    assert signature.gradients() == [None] * len(flat)
    assert signature.arranged(*reversed(flat))(tuple(reversed(flat))) == list(flat)
    assert signature.picked(*flat[:1:-1])(flat) == list(flat[:1:-1])


def test_functional_calls_in_the_order_of_the_signatures(monkeypatch: pytest.MonkeyPatch) -> None:
    def catch(name: str) -> Any:
        inputs = SIGNATURES[name]

        def run(*args: Any) -> tuple[Any, ...]:
            called.append(inputs.unflatten(args))
            return ((), (), ()) if name != "pool" else ((), ())

        return run

    called: list[Any] = []
    backend = backends.Backend(
        "own", "", lambda x: None, catch("csta"), catch("pool"), catch("couple"), validates=True
    )
    monkeypatch.setattr(functional, "select", lambda *_, **__: backend)
    x, *rest = (torch.zeros(()) for _ in range(12))
    heads = HeadWeights(*rest[:4]), HeadWeights(*rest[4:8])
    masks = dict(zip(("lengths", "frame_mask", "joint_mask"), rest[8:], strict=True))
    choices: dict[str, Any] = {"gate": "sigmoid", "scale": 3, "residual": True}
    functional.csta(x, *heads, **masks, **choices)
    functional.couple(x, *rest[:2], **masks, **choices)
    functional.pool(x, **masks)
    flat = [tuple(map(id, SIGNATURES["csta"].flatten(called[0])))[:12]]
    assert flat == [tuple(map(id, (x, *rest)))]
    assert called[0].choices == called[1].choices == (1, 3.0, True)
    for inputs in called:
        assert inputs.x is x
        assert all(inputs.masks._asdict()[name] is mask for name, mask in masks.items())
    assert called[0].frame_head.w1 is heads[0].w1
    assert called[0].joint_head.b2 is heads[1].b2
    assert called[1].logits.joint_logits is rest[1]


@pytest.mark.parametrize("case", _SMALL_CASES, ids=str)
def test_opcheck_of_every_case(case: Case) -> None:
    inputs = _finite(make(case, torch.float32))
    for name, arguments in (
        (case.op, _forward_arguments(inputs)),
        (f"{case.op}_backward", _backward_arguments(inputs)),
    ):
        operation = getattr(torch.ops.csta_fast, name).default
        torch.library.opcheck(operation, arguments, test_utils=_QUICK_CHECKS)


@pytest.mark.parametrize("case", FEW_CASES, ids=str)
def test_opcheck_in_the_compiler(case: Case) -> None:
    inputs = _finite(make(case, torch.float32))
    operation = getattr(torch.ops.csta_fast, case.op).default
    torch.library.opcheck(
        operation, _forward_arguments(inputs), test_utils="test_aot_dispatch_dynamic"
    )


@pytest.mark.parametrize("op", ["csta", "couple", "pool"])
def test_opcheck_of_differentiable_backward(op: str) -> None:
    inputs = _finite(make(Case("twice", (2, 4, 5, 3), op=op), torch.float64))
    arguments = [
        each.clone().requires_grad_()
        if isinstance(each, torch.Tensor) and each.is_floating_point()
        else each
        for each in _backward_arguments(inputs)
    ]
    torch.library.opcheck(getattr(torch.ops.csta_fast, f"{op}_backward").default, tuple(arguments))


@pytest.mark.quick
@pytest.mark.parametrize("dtype", ALL_DTYPES, ids=str)
@pytest.mark.parametrize("case", FEW_CASES, ids=str)
def test_fake_tensors_have_the_real_ones_form(case: Case, dtype: torch.dtype) -> None:
    inputs = make(case, dtype)
    for name, arguments in (
        (case.op, _forward_arguments(inputs)),
        (f"{case.op}_backward", _backward_arguments(inputs)),
    ):
        operation = getattr(torch.ops.csta_fast, name).default
        with torch.no_grad():
            real = operation(*arguments)
            with FakeTensorMode() as mode:
                fake = operation(
                    *(
                        mode.from_tensor(each) if isinstance(each, torch.Tensor) else each
                        for each in arguments
                    )
                )
        real, fake = (each if isinstance(each, tuple) else (each,) for each in (real, fake))
        for ours, theirs in zip(fake, real, strict=True):
            assert ours.shape == theirs.shape
            assert ours.stride() == theirs.stride()
            assert (ours.dtype, ours.device) == (theirs.dtype, theirs.device)


def _flops(inputs: Inputs, backend: str) -> tuple[int, int]:
    with FlopCounterMode(display=False) as forward:
        results = inputs.call(backend)
    with FlopCounterMode(display=False) as backward:
        inputs.gradients(results)
    return forward.get_total_flops(), backward.get_total_flops()


@pytest.mark.quick
@pytest.mark.parametrize("name", ["odd", "two_groups", "couple_odd", "pool_odd"])
def test_flops_are_those_of_plain_pytorch(name: str) -> None:
    inputs = make(named(name), torch.float32)
    ours = _flops(inputs, "cpu")
    assert ours == _flops(inputs, "reference")
    assert (ours[0] > 0) == (inputs.case.op == "csta")


@pytest.mark.quick
@pytest.mark.parametrize("case", FEW_CASES, ids=str)
def test_registered_gradients_are_those_of_eager_calls(case: Case) -> None:
    inputs = make(case, torch.float32)
    results, gradients = run(inputs, "cpu")
    registered = getattr(torch.ops.csta_fast, case.op).default(*_forward_arguments(inputs))
    registered = dict(zip(results, registered, strict=True))
    assert_like(registered, results, units=0)
    assert_like(inputs.gradients(registered), gradients, units=0)


def test_nothing_else_is_registered() -> None:
    wanted = {"csta", "csta_backward", "pool", "pool_backward", "couple", "couple_backward"}
    schemas = torch._C._jit_get_all_schemas()
    found = {s.name.split("::")[1] for s in schemas if s.name.startswith("csta_fast::")}
    assert found == {*wanted, "instruction_set"}
