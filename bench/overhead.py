"""What a call costs when there is nothing to compute."""

from __future__ import annotations

from functools import partial

import torch

from bench.timing import Variant
from csta_fast import CSTA, HeadWeights, functional, reference

BASE = "one_aten_op"
NAMES = (BASE, "functional.csta", "layer", "reference.csta")


def variants(backend: str | None) -> list[Variant]:
    """Calls on a tensor of one element, beside the cheapest operation that makes a tensor.

    Args:
        backend: the backend to force, or None for the choice that a user's call makes.
    """
    x = torch.randn(1, 1, 1, 1)
    head = HeadWeights(torch.ones(1, 1), torch.zeros(1), torch.ones(1, 1), torch.zeros(1))
    layer = CSTA(1, hidden=1, backend=backend)
    calls = (
        partial(torch.neg, x),
        partial(functional.csta, x, head, head, backend=backend),
        partial(layer, x),
        partial(reference.csta, x, head, head),
    )
    return [Variant(name, call) for name, call in zip(NAMES, calls, strict=True)]
