"""The one place that knows the order of the operators' arguments.

PyTorch passes them flat. Here each operator's inputs are a tuple of named fields, some of which are
tuples themselves; ``Signature`` goes from one form to the other and makes the schema.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, Generic, NamedTuple, TypeVar, get_type_hints

from torch import Tensor

from csta_fast.types import HeadWeights


class Masks(NamedTuple):
    """Which positions are valid; None where all are."""

    lengths: Tensor | None  # (N,) int64
    frame_mask: Tensor | None  # (N, T) bool
    joint_mask: Tensor | None  # (N, V) or (V,) bool


class Choices(NamedTuple):
    """How attention is made of logits, and y of attention."""

    gate: int  # a code of GATE_CODES
    scale: float | None  # None for "mean"
    residual: bool


class Logits(NamedTuple):
    """Scores of a user's own heads, in any floating dtype."""

    frame_logits: Tensor  # (N, G, T)
    joint_logits: Tensor  # (N, G, V)


class SavedAttention(NamedTuple):
    """The attention that forward returned, in the compute dtype."""

    frame_attention: Tensor  # (N, G, T)
    joint_attention: Tensor  # (N, G, V)


class Upstream(NamedTuple):
    """Gradients of the results of a forward; None where a result was not used."""

    grad_y: Tensor | None
    grad_frame_attention: Tensor | None
    grad_joint_attention: Tensor | None


class CstaInputs(NamedTuple):
    x: Tensor
    frame_head: HeadWeights
    joint_head: HeadWeights
    masks: Masks
    choices: Choices


class CstaBackwardInputs(NamedTuple):
    upstream: Upstream
    x: Tensor
    frame_head: HeadWeights
    joint_head: HeadWeights
    attention: SavedAttention
    masks: Masks
    choices: Choices
    input_gradient: bool  # whether the gradient of x is wanted


class CoupleInputs(NamedTuple):
    x: Tensor
    logits: Logits
    masks: Masks
    choices: Choices


class CoupleBackwardInputs(NamedTuple):
    upstream: Upstream
    x: Tensor
    attention: SavedAttention
    logits: Logits  # for the second derivative only
    masks: Masks
    choices: Choices
    input_gradient: bool


class PoolInputs(NamedTuple):
    x: Tensor
    masks: Masks


class PoolBackwardInputs(NamedTuple):
    grad_frame_means: Tensor  # (N, C, T)
    grad_joint_means: Tensor  # (N, C, V)
    masks: Masks
    channels_last: bool  # of the gradient of x


def heads(weights: Sequence[Tensor]) -> dict[str, HeadWeights]:
    """The fields of both heads, of their eight weights or as many gradients."""
    half = len(HeadWeights._fields)
    return {
        "frame_head": HeadWeights(*weights[:half]),
        "joint_head": HeadWeights(*weights[half:]),
    }


def _places(places: list[int]) -> Callable[[Sequence[Any]], list[Any]]:
    """Like operator.itemgetter, which compiled autograd cannot trace."""
    return lambda values: [values[place] for place in places]


_Inputs = TypeVar("_Inputs", bound=tuple[Any, ...])
_TYPES = {
    Tensor: "Tensor",
    Tensor | None: "Tensor?",
    int: "int",
    float | None: "float?",
    bool: "bool",
}


class Signature(Generic[_Inputs]):
    """Named inputs of an operator, and the flat arguments that PyTorch passes.

    Attributes:
        schema: as PyTorch takes it, without the operator's name.
        names: of the flat arguments.
        tensors: how many of them are tensors or None; these come first.
    """

    def __init__(self, inputs: Callable[..., _Inputs], results: int) -> None:
        self._inputs = inputs
        #: Of each field its name, the tuple that it is or None, and its place among the arguments.
        self._fields: list[tuple[str, Any, Any]] = []
        arguments: list[tuple[str, Any]] = []
        for field, kind in get_type_hints(inputs).items():
            start, group = len(arguments), None if kind in _TYPES else kind
            prefix = field.removesuffix("head") if kind is HeadWeights else ""
            parts = {field: kind} if group is None else get_type_hints(kind)
            arguments += [(prefix + part, type_) for part, type_ in parts.items()]
            place = start if group is None else slice(start, len(arguments))
            self._fields.append((field, group, place))
        self.names = tuple(name for name, _ in arguments)
        self.tensors = sum("Tensor" in _TYPES[kind] for _, kind in arguments)
        returns = ", ".join(["Tensor"] * results)
        self.schema = "({}) -> {}".format(
            ", ".join(f"{_TYPES[kind]} {name}" for name, kind in arguments),
            returns if results == 1 else f"({returns})",
        )

    def unflatten(self, args: tuple[Any, ...]) -> _Inputs:
        """Named inputs of flat arguments."""
        return self._inputs(
            *[
                args[place] if group is None else group(*args[place])
                for _, group, place in self._fields
            ]
        )

    def arranged(self, *given: str) -> Callable[[tuple[Any, ...]], list[Any]]:
        """What brings values of these names into the order of the arguments, at no great cost."""
        return _places([given.index(name) for name in self.names])

    def picked(self, *wanted: str) -> Callable[[Sequence[Any]], list[Any]]:
        """What takes the values of these names out of flat arguments."""
        return _places([self.names.index(name) for name in wanted])

    def padded(self, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        """Gradients of the first arguments, and None for those of the others."""
        return (*gradients, *(None,) * (len(self.names) - len(gradients)))

    def flatten(self, inputs: _Inputs) -> list[Any]:
        """Flat arguments of named inputs."""
        flat: list[Any] = []
        for value, (_, group, _) in zip(inputs, self._fields, strict=True):
            if group is None:
                flat.append(value)
            else:
                flat += value
        return flat

    def gradients(self, **given: Any) -> list[Any]:
        """Gradients of the named fields, flat, with None for those of the others."""
        flat: list[Any] = []
        for field, group, _ in self._fields:
            if field not in given:
                flat += (None,) * (1 if group is None else len(group._fields))
            elif group is None:
                flat.append(given[field])
            else:
                flat += given[field]
        return flat


CSTA: Final = Signature(CstaInputs, results=3)
CSTA_BACKWARD: Final = Signature(CstaBackwardInputs, results=9)
COUPLE: Final = Signature(CoupleInputs, results=3)
COUPLE_BACKWARD: Final = Signature(CoupleBackwardInputs, results=3)
POOL: Final = Signature(PoolInputs, results=2)
POOL_BACKWARD: Final = Signature(PoolBackwardInputs, results=1)

#: The signature of every operator.
SIGNATURES: Final[dict[str, Signature[Any]]] = {
    "csta": CSTA,
    "csta_backward": CSTA_BACKWARD,
    "couple": COUPLE,
    "couple_backward": COUPLE_BACKWARD,
    "pool": POOL,
    "pool_backward": POOL_BACKWARD,
}
