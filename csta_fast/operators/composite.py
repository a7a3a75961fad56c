"""The reference under the operators' flat signatures, so that it can stand in for any of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from csta_fast import reference
from csta_fast.operators.signature import (
    COUPLE,
    COUPLE_BACKWARD,
    CSTA,
    CSTA_BACKWARD,
    POOL,
    POOL_BACKWARD,
    SIGNATURES,
    Choices,
)
from csta_fast.types import GATE_CODES, is_channels_last, memory_format

_GATES = {code: gate for gate, code in GATE_CODES.items()}


def csta(*args: Any) -> tuple[Tensor, Tensor, Tensor]:
    x, frame_head, joint_head, masks, choices = CSTA.unflatten(args)
    y, attention = reference.csta(
        x, frame_head, joint_head, **masks._asdict(), **_spelled_out(choices)
    )
    return y, *attention


def couple(*args: Any) -> tuple[Tensor, Tensor, Tensor]:
    x, logits, masks, choices = COUPLE.unflatten(args)
    frame_logits, joint_logits = logits
    y, attention = reference.couple(
        x, frame_logits, joint_logits, **masks._asdict(), **_spelled_out(choices)
    )
    return y, *attention


def _spelled_out(choices: Choices) -> dict[str, Any]:
    """Choices as the reference takes them."""
    gate, scale, residual = choices
    return {
        "gate": _GATES[gate],
        "scale": "mean" if scale is None else scale,
        "residual": residual,
    }


def pool(*args: Any) -> tuple[Tensor, Tensor]:
    x, masks = POOL.unflatten(args)
    return reference.pool(x, **masks._asdict())


def csta_backward(*args: Any) -> tuple[Tensor, ...]:
    inputs = CSTA_BACKWARD.unflatten(args)
    grad_x, *others = _pull_back(
        lambda *primals: csta(*primals, *inputs.masks, *inputs.choices),
        inputs.upstream,
        (inputs.x, *inputs.frame_head, *inputs.joint_head),
    )
    return grad_x if inputs.input_gradient else inputs.x.new_empty((0,)), *others


def couple_backward(*args: Any) -> tuple[Tensor, Tensor, Tensor]:
    inputs = COUPLE_BACKWARD.unflatten(args)
    logits = (
        each.to(attention.dtype)
        for each, attention in zip(inputs.logits, inputs.attention, strict=True)
    )
    grad_x, of_frames, of_joints = _pull_back(
        lambda *primals: couple(*primals, *inputs.masks, *inputs.choices),
        inputs.upstream,
        (inputs.x, *logits),
    )
    return grad_x if inputs.input_gradient else inputs.x.new_empty((0,)), of_frames, of_joints


def pool_backward(*args: Any) -> Tensor:
    frames, joints, masks, channels_last = POOL_BACKWARD.unflatten(args)
    x = frames.new_zeros((*frames.shape, joints.shape[2]))
    x = x.contiguous(memory_format=memory_format(channels_last))
    (grad_x,) = _pull_back(lambda x: pool(x, *masks), (frames, joints), (x,))
    return grad_x


def _pull_back(
    forward: Callable[..., tuple[Tensor, ...]],
    cotangents: tuple[Tensor | None, ...],
    primals: tuple[Tensor, ...],
) -> tuple[Tensor, ...]:
    """Gradients of <cotangents, forward(primals)>."""
    leaves = [primal.detach().requires_grad_() for primal in primals]
    with torch.enable_grad():
        outputs = forward(*leaves)
    given = [(out, grad) for out, grad in zip(outputs, cotangents, strict=True) if grad is not None]
    gradients = torch.autograd.grad(
        [out for out, _ in given], leaves, [grad for _, grad in given], materialize_grads=True
    )
    return tuple(
        gradient.contiguous(memory_format=memory_format(is_channels_last(leaf)))
        for gradient, leaf in zip(gradients, leaves, strict=True)
    )


def kernel(name: str) -> Callable[..., Any]:
    """The operator as PyTorch's dispatcher calls it: in the layout that the fake kernel tells."""
    operator: Callable[..., Any] = globals()[name]

    def run(*args: Any) -> Any:
        with _autograd_enabled():
            results = operator(*args)
        if name.endswith("_backward"):
            return results
        channels_last = name != "pool" and is_channels_last(SIGNATURES[name].unflatten(args).x)
        first, *others = results
        first = first.contiguous(memory_format=memory_format(channels_last))
        return first, *(each.contiguous() for each in others)

    return run


@contextmanager
def _autograd_enabled() -> Iterator[None]:
    """Undo, for plain PyTorch's gradients, that the dispatcher is below its autograd layer."""
    functionality = torch._C.DispatchKey.AutogradFunctionality
    with torch._C._PreserveDispatchKeyGuard():
        torch._C._dispatch_tls_set_dispatch_key_excluded(functionality, False)
        yield
