"""Gradients of the operations, one rule each, for eager mode and for the compiler alike.

Eager calls go through these ``autograd.Function`` classes (half the cost of the generated ones);
``ops.register`` hands the same two methods to ``torch.library.register_autograd``, which is what
``torch.compile`` and direct users of ``torch.ops`` see. Every set of kernels has its operations in
a namespace of its own, and the same rules.

First gradients are native. Gradients of gradients differentiate the reference, so they are exact
to any order.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.autograd import Function

from csta_fast import composite
from csta_fast.second_order import pull_back_twice

#: What vmap asks of a rule: (size of the mapped dimension, its place in each argument, arguments)
#: to (results, place of the mapped dimension in each).
VmapRule: TypeAlias = Callable[..., tuple[Any, Any]]


class Operations:
    """The operations of one namespace of ``torch.ops``, callable with gradients."""

    def __init__(self, namespace: str) -> None:
        self.namespace = namespace
        self._found: dict[str, Any] = {}
        #: The gradient rule of every operation.
        self.rules: dict[str, Any] = {
            name: type(rule.__name__, (rule,), {"operations": self})
            for name, rule in _RULES.items()
        }
        self._eager = {name: _without_setup_context(rule) for name, rule in self.rules.items()}

    def _operation(self, name: str) -> Any:
        operation = self._found.get(name)
        if operation is None:
            # What the overload itself calls, at the price of a microsecond.
            operation = getattr(getattr(torch.ops, self.namespace), name).default._op
            self._found[name] = operation
        return operation

    def native(self, name: str, *args: Any) -> Any:
        """Call the kernel without the autograd layer, whose mere presence costs microseconds."""
        with torch._C._AutoDispatchBelowAutograd():
            return self._operation(name)(*args)

    def call(self, name: str, *args: Any) -> Any:
        """Call an operation the cheapest way that still differentiates, transforms and compiles."""
        if torch.compiler.is_compiling() or torch._C._is_tracing():
            return getattr(getattr(torch.ops, self.namespace), name).default(*args)
        if torch._C._are_functorch_transforms_active():
            return self.rules[name].apply(*args)
        if torch.is_grad_enabled() and _any_requires_grad(args):
            return self._eager[name].apply(*args)  # type: ignore[no-untyped-call]
        with torch._C._AutoDispatchBelowAutograd():  # native(), less a call of Python's
            return self._operation(name)(*args)

    def loop_over_batch(self, name: str) -> VmapRule:
        """A vmap rule: one call per element of the mapped dimension, results stacked in front."""

        def rule(info: Any, in_dims: tuple[int | None, ...], *args: Any) -> tuple[Any, Any]:
            if info.batch_size == 0:  # of such shapes, and none of them
                args = tuple(
                    arg if axis is None else arg.new_zeros(arg.movedim(axis, 0).shape[1:])[None]
                    for arg, axis in zip(args, in_dims, strict=True)
                )
                in_dims = tuple(axis if axis is None else 0 for axis in in_dims)
            results = [
                self.call(
                    name,
                    *(
                        arg if axis is None else arg.select(axis, index)
                        for arg, axis in zip(args, in_dims, strict=True)
                    ),
                )
                for index in range(max(1, info.batch_size))
            ]
            if isinstance(results[0], Tensor):
                return torch.stack(results)[: info.batch_size], 0
            stacked = tuple(
                torch.stack(parts)[: info.batch_size] for parts in zip(*results, strict=True)
            )
            return stacked, (0,) * len(stacked)

        return rule


def _any_requires_grad(args: tuple[Any, ...]) -> bool:
    return any(isinstance(value, Tensor) and value.requires_grad for value in args)


class _Rule(Function):
    """The gradient rule of one operation; ``Operations`` makes one of each for its namespace."""

    operation: str
    operations: Operations

    @classmethod
    def forward(cls, *args: Any) -> Any:
        return cls.operations.native(cls.operation, *args)

    @classmethod
    def vmap(cls, info: Any, in_dims: tuple[int | None, ...], *args: Any) -> tuple[Any, Any]:
        return cls.operations.loop_over_batch(cls.operation)(info, in_dims, *args)


class _Csta(_Rule):
    operation = "csta"

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        _, *attention = output
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*inputs[:12], *attention)
        ctx.options = inputs[12:]

    @classmethod
    def backward(cls, ctx: Any, *grads: Tensor | None) -> tuple[Any, ...]:
        *inputs, frame_attention, joint_attention = ctx.saved_tensors
        grad_y, grad_frames, grad_joints = grads
        x, weights, masks = inputs[0], inputs[1:9], inputs[9:]
        grad_x, *grad_weights = cls.operations.call(
            "csta_backward",
            torch.zeros_like(x) if grad_y is None else grad_y,
            grad_frames,
            grad_joints,
            x,
            *weights,
            frame_attention,
            joint_attention,
            *masks,
            *ctx.options,
            ctx.needs_input_grad[0],
        )
        return grad_x if ctx.needs_input_grad[0] else None, *grad_weights, *(None,) * 6


class _CstaBackward(_Rule):
    operation = "csta_backward"

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*inputs[:17])
        ctx.options = inputs[17:]

    @classmethod
    def backward(cls, ctx: Any, *grads: Tensor | None) -> tuple[Any, ...]:
        saved = ctx.saved_tensors
        cotangents, primals = saved[:3], saved[3:12]
        settings: tuple[Any, ...] = (*saved[14:17], *ctx.options[:3])

        def forward(*primals: Any) -> tuple[Tensor, ...]:
            return composite.csta(*primals, *settings)

        results = pull_back_twice(forward, cotangents, primals, grads)
        return *_where_given(results, (*cotangents, *primals)), *(None,) * 9


class _Couple(_Rule):
    operation = "couple"

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        _, *attention = output
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*inputs[:6], *attention)
        ctx.options = inputs[6:]

    @classmethod
    def backward(cls, ctx: Any, *grads: Tensor | None) -> tuple[Any, ...]:
        x, frame_logits, joint_logits, *masks, frame_attention, joint_attention = ctx.saved_tensors
        grad_y, grad_frames, grad_joints = grads
        grad_x, grad_frame_logits, grad_joint_logits = cls.operations.call(
            "couple_backward",
            torch.zeros_like(x) if grad_y is None else grad_y,
            grad_frames,
            grad_joints,
            x,
            frame_attention,
            joint_attention,
            frame_logits,
            joint_logits,
            *masks,
            *ctx.options,
            ctx.needs_input_grad[0],
        )
        return (
            grad_x if ctx.needs_input_grad[0] else None,
            grad_frame_logits.to(frame_logits.dtype),
            grad_joint_logits.to(joint_logits.dtype),
            *(None,) * 6,
        )


class _CoupleBackward(_Rule):
    operation = "couple_backward"

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*inputs[:11])
        ctx.options = inputs[11:]

    @classmethod
    def backward(cls, ctx: Any, *grads: Tensor | None) -> tuple[Any, ...]:
        saved = ctx.saved_tensors
        cotangents, x, logits = saved[:3], saved[3], saved[6:8]
        settings: tuple[Any, ...] = (*saved[8:11], *ctx.options[:3])

        def forward(*primals: Any) -> tuple[Tensor, ...]:
            return composite.couple(*primals, *settings)

        results = pull_back_twice(forward, cotangents, (x, *logits), grads)
        *of_cotangents, of_x, of_frames, of_joints = _where_given(
            results, (*cotangents, x, *logits)
        )
        return *of_cotangents, of_x, None, None, of_frames, of_joints, *(None,) * 7


class _Pool(_Rule):
    operation = "pool"

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        x, *masks = inputs
        ctx.save_for_backward(*masks)
        ctx.channels_last = not x.is_contiguous() and x.is_contiguous(
            memory_format=torch.channels_last
        )

    @classmethod
    def backward(cls, ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        grad_x = cls.operations.call("pool_backward", *grads, *ctx.saved_tensors, ctx.channels_last)
        return grad_x, None, None, None


class _PoolBackward(_Rule):
    """Linear in both gradients, so its own gradient is the pooling of what comes back."""

    operation = "pool_backward"

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.save_for_backward(*inputs[2:5])

    @classmethod
    def backward(cls, ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        return *cls.operations.call("pool", *grads, *ctx.saved_tensors), None, None, None, None


def _where_given(
    results: tuple[Tensor, ...], inputs: tuple[Tensor | None, ...]
) -> tuple[Tensor | None, ...]:
    return tuple(
        None if given is None else result for result, given in zip(results, inputs, strict=True)
    )


_RULES: dict[str, type[_Rule]] = {
    rule.operation: rule
    for rule in (_Csta, _CstaBackward, _Couple, _CoupleBackward, _Pool, _PoolBackward)
}


def _without_setup_context(rule: Any) -> type[Function]:
    """The rule for calls outside ``torch.func``: with a setup_context of its own, PyTorch would
    take forward's signature apart at every call, which costs more than the kernel of a small one.
    """

    class Eager(Function):
        @staticmethod
        def forward(ctx: Any, *args: Any) -> Any:
            output = rule.forward(*args)
            rule.setup_context(ctx, args, output)
            return output

        backward = staticmethod(rule.backward)

    Eager.__name__ = Eager.__qualname__ = rule.__name__
    return Eager
