"""How the operators go over several processes: the sharding rules of DTensor.

Samples are independent. So x, attention, logits, masks and lengths may be sharded over their
samples, with the weights replicated; gradients of the weights are then sums over the processes.
Or everything is replicated. DTensor redistributes what comes in any other way.
"""

from __future__ import annotations

import sys
from functools import partial
from typing import Any

from csta_fast.compiler import constant_to_the_compiler
from csta_fast.types import HeadWeights

_TENSOR = "torch.distributed.tensor"
_TENSORS = ("Tensor", "Optional[Tensor]")
_WEIGHTS = HeadWeights._fields

#: Operators that wait for DTensor to be imported.
_waiting: list[Any] = []


def register_later(operator: Any) -> None:
    """Register the rules of an operator once there are DTensors, whose import is not cheap."""
    _waiting.append(operator)


@constant_to_the_compiler
def register_now() -> None:
    """Register what waits, if DTensor was imported; called before a call that may hold some."""
    if not _waiting or _TENSOR not in sys.modules:
        return
    from torch.distributed.tensor import DTensor
    from torch.distributed.tensor.experimental import register_sharding

    known = DTensor._op_dispatcher.sharding_propagator.op_to_schema_info
    while _waiting:
        operator = _waiting.pop()
        register_sharding(operator)(partial(_placements, operator._schema))
        # Results are remembered by the arguments from this one on. PyTorch begins at the first
        # integer, so that pool_backward would get the strides of its other memory layout.
        tensors = [str(each.type).endswith(_TENSORS) for each in operator._schema.arguments]
        known[operator].static_argnum = [*tensors, False].index(False)


def _placements(schema: Any, *args: Any) -> list[tuple[list[Any], list[Any]]]:
    """Outputs and inputs of each way that needs no communication, on one dimension of a mesh."""
    from torch.distributed.tensor import Partial, Replicate, Shard

    def of(name: str, value: Any) -> Any:
        if value is None or not hasattr(value, "placements"):  # left out, or no tensor
            return None
        everyones = name.endswith(_WEIGHTS) or (name == "joint_mask" and value.ndim == 1)
        return Replicate() if everyones else Shard(0)

    names = [argument.name for argument in schema.arguments]
    given = dict(zip(names, args, strict=True))
    sharded = [of(name, value) for name, value in given.items()]
    replicated = [None if each is None else Replicate() for each in sharded]
    outputs: list[Any] = [Shard(0)] * len(schema.returns)
    if schema.name.endswith("csta_backward"):
        outputs[1:] = [Partial()] * (len(outputs) - 1)
    if not given.get("input_gradient", True):
        outputs[0] = Replicate()  # of no elements
    return [(outputs, sharded), ([Replicate()] * len(outputs), replicated)]
