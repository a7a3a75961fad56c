"""The operators of one set of kernels, callable with gradients, transforms and compilers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch._functorch.utils import unwrap_dead_wrappers
from torch.autograd import Function

from csta_fast.operators import sharding
from csta_fast.operators.autograd import RULES

#: What vmap asks of a rule: (size of the mapped dimension, its place in each argument, arguments)
#: to (results, place of the mapped dimension in each).
VmapRule: TypeAlias = Callable[..., tuple[Any, Any]]


#: What ``Function.apply`` calls outside ``torch.func``. It would first take forward's signature
#: apart, which costs more than the kernel of a small call.
_APPLY: dict[str, Callable[..., Any]] = {
    name: super(Function, rule).apply  # type: ignore[misc]
    for name, rule in RULES.items()
}


class Operators:
    """The operators of one namespace of ``torch.ops``, callable with gradients."""

    def __init__(self, namespace: str) -> None:
        self.namespace = namespace
        self._found: dict[str, Any] = {}

    def _operator(self, name: str) -> Any:
        operator = self._found.get(name)
        if operator is None:
            # What the overload itself calls, at the price of a microsecond.
            operator = getattr(getattr(torch.ops, self.namespace), name).default._op
            self._found[name] = operator
        return operator

    def native(self, name: str, *args: Any) -> Any:
        """Call the kernel without the autograd layer, whose mere presence costs microseconds."""
        with torch._C._AutoDispatchBelowAutograd():
            return self._operator(name)(*args)

    def call(self, name: str, *args: Any) -> Any:
        """Call an operator the cheapest way that still differentiates, transforms and compiles."""
        if torch.compiler.is_compiling() or torch._C._is_tracing():
            sharding.register_now()
            return getattr(getattr(torch.ops, self.namespace), name).default(*args)
        if type(args[0]) is not Tensor:
            sharding.register_now()
        if torch._C._are_functorch_transforms_active():
            return RULES[name].apply(*args, self)  # type: ignore[no-untyped-call]
        if torch.is_grad_enabled() and _any_requires_grad(args):
            return _APPLY[name](*unwrap_dead_wrappers(args), self)
        with torch._C._AutoDispatchBelowAutograd():  # native(), less a call of Python's
            return self._operator(name)(*args)

    def rule(self, name: str) -> tuple[Callable[..., Any], Callable[..., None]]:
        """An operator's backward and setup_context as ``torch.library`` takes them."""
        rule: Any = RULES[name]

        def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
            rule.setup_context(ctx, (*inputs, self), output)

        def backward(ctx: Any, *grads: Tensor | None) -> tuple[Any, ...]:
            *results, _ = rule.backward(ctx, *grads)
            return tuple(results)

        return backward, setup_context

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
