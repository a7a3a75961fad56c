"""How wrong a result may be, and how wrong it is.

An element may be further from the exact one than the worst of plain PyTorch in the same dtype
by one unit in its last place and ``WALK`` standard deviations of the rounding errors that any
order of summation makes (``uncertain``). The relative L2 error, the angle and the summed signed
error of the whole tensor must hold against plain PyTorch's in the same way: a bias that hides
within every element's bound shows there.

Plain PyTorch itself, the reference, has nobody to be compared with: it gets ``WALK_ALONE``
standard deviations and nothing else.
"""

from __future__ import annotations

import numpy as np
import torch
from oracle import extended
from torch import Tensor
from uncertain import Array, Uncertain

from csta_fast.types import COMPUTE_DTYPES

#: Standard deviations of rounding errors that are allowed on top of plain PyTorch's errors: what
#: plain PyTorch itself needs on a call whose axes were reversed (1.35 in 5500 tensors).
WALK = 1.5

#: The same for plain PyTorch itself: what the worst of a million elements may be off.
WALK_ALONE = 8.0

#: Rows of a tensor share the error of one logit or one hidden unit, so that signed errors add up
#: faster than independent ones do, but not as fast as a bias does in a thousand elements.
_SHARED = 16.0

_SMALLEST = {torch.float16: 2.0**-24}  # the spacing of float16 where its exponents end


def deviation(result: Tensor, exact: Uncertain) -> Array:
    """The standard deviation of rounding errors before the last rounding, element by element."""
    eps = torch.finfo(COMPUTE_DTYPES[result.dtype]).eps
    variance = np.nan_to_num(exact.variance.astype(np.float64), nan=0.0)
    return eps * np.sqrt(np.broadcast_to(variance, exact.value.shape))


def last_place(result: Tensor, exact: Uncertain) -> Array:
    """The spacing of the result's dtype at the exact values."""
    values = np.abs(np.nan_to_num(exact.value.astype(np.float64), nan=0.0))
    _, exponents = np.frexp(values)
    spacing = np.where(values > 0, np.ldexp(torch.finfo(result.dtype).eps, exponents - 1), 0)
    return np.maximum(spacing, np.where(values > 0, _SMALLEST.get(result.dtype, 0.0), 0))


def _own_errors(result: Tensor, plain: Tensor | None, exact: Uncertain) -> Array:
    walk = WALK_ALONE if plain is None else WALK
    return last_place(result, exact) + walk * deviation(result, exact)


def errors(name: str, result: Tensor, exact: Uncertain) -> Array:
    values = extended(result)
    assert values.shape == exact.value.shape, f"{name}: {values.shape}, not {exact.value.shape}"
    misplaced = np.isnan(values) != np.isnan(exact.value)
    assert not misplaced.any(), f"{name}: NaN at the wrong places, first {_first(misplaced)}"
    return np.nan_to_num(values - exact.value, nan=0.0)


def _first(places: Array) -> tuple[int, ...]:
    return tuple(map(int, np.argwhere(places)[0]))


def assert_accurate(name: str, result: Tensor, plain: Tensor | None, exact: Uncertain) -> None:
    """The result is as accurate as plain PyTorch's, or as rounding allows where there is none."""
    _assert_elements(name, result, plain, exact)
    _assert_direction(name, result, plain, exact)


def _assert_elements(name: str, result: Tensor, plain: Tensor | None, exact: Uncertain) -> None:
    """No element worse than plain PyTorch's worst by more than a unit and a walk."""
    error = errors(name, result, exact)
    allowed = _own_errors(result, plain, exact)
    if plain is not None:
        worst = np.abs(errors(name, plain, exact)).max(initial=0)
        computed = (exact.value != 0) | (exact.variance > 0)
        allowed = allowed + np.where(computed, worst, 0)
    too_far = ~(np.abs(error) <= allowed)
    if too_far.any():
        at = _first(too_far)
        raise AssertionError(
            f"{name}: {too_far.sum()} of {error.size} elements too far off; at {at} "
            f"got {extended(result)[at]:.9g}, exact {exact.value[at]:.9g}, "
            f"error {float(error[at]):.3g} where {float(allowed[at]):.3g} is allowed"
        )


def _assert_direction(name: str, result: Tensor, plain: Tensor | None, exact: Uncertain) -> None:
    """Relative L2 error, angle and bias of a tensor: what an element-wise bound cannot see."""
    real = ~np.isnan(exact.value)
    values = exact.value[real]
    step = float(np.linalg.norm(_own_errors(result, plain, exact)[real]))
    ours = _Summary(errors(name, result, exact)[real], values)
    theirs = _Summary(0 * values if plain is None else errors(name, plain, exact)[real], values)
    allowed = theirs.distance + step
    assert ours.distance <= allowed, f"{name}: L2 error {ours.distance:.3g} over {allowed:.3g}"
    # All elements of a sample share the rounding of its softmax sums: half a unit of each. And x
    # plus a residual's small rest may round to x everywhere, as plain PyTorch's then does too.
    dtype = result.dtype if plain is None else COMPUTE_DTYPES[result.dtype]
    shared = torch.finfo(dtype).eps / 2 * float(np.abs(values).sum())
    allowed = theirs.bias + _SHARED * step + shared
    assert ours.bias <= allowed, f"{name}: signed error {ours.bias:.3g} over {allowed:.3g}"
    if step < 0.1 * ours.length:
        allowed = theirs.angle + step / ours.length
        assert ours.angle <= allowed, f"{name}: turned by {ours.angle:.3g}, over {allowed:.3g}"


class _Summary:
    """Figures of a whole tensor of errors."""

    def __init__(self, error: Array, values: Array) -> None:
        error, values = error.astype(np.float64), values.astype(np.float64)
        self.length = float(np.linalg.norm(values))
        self.distance = float(np.linalg.norm(error))
        self.bias = abs(float(error.sum()))
        self.angle = _angle(values + error, values)


def _angle(one: Array, other: Array) -> float:
    """The angle between two vectors by its half-chord: an arccos would lose half the digits."""
    lengths = np.linalg.norm(one), np.linalg.norm(other)
    if not all(lengths):
        return 0.0 if lengths[0] == lengths[1] else np.pi / 2
    chord = np.linalg.norm(one / lengths[0] - other / lengths[1])
    return float(2 * np.arcsin(min(1.0, chord / 2)))
