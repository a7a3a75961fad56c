"""Arrays that carry, beside their exact values, the rounding errors of whoever computes them.

``variance`` is that of the rounding error in units of eps², propagated to first order: every
operation passes on the errors of its operands and adds one rounding of its result. A sum counts
as one rounding of every term and one of the total, whatever its order.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

Array: TypeAlias = Any  # numpy.ndarray of float64 or longdouble, or of bool


@dataclass(frozen=True)
class Uncertain:
    """Exact values and the variance of what rounding makes of them; the two broadcast."""

    value: Array
    variance: Array

    def map(self, shape: Callable[[Array], Array]) -> Uncertain:
        """Something that moves elements and computes nothing: an index, a transpose."""
        return Uncertain(shape(self.value), shape(np.broadcast_to(self.variance, self.value.shape)))

    def __add__(self, other: Uncertain) -> Uncertain:
        total = self.value + other.value
        return Uncertain(total, self.variance + other.variance + total**2)

    def __mul__(self, other: Uncertain) -> Uncertain:
        product = self.value * other.value
        passed_on = self.variance * other.value**2 + other.variance * self.value**2
        return Uncertain(product, passed_on + product**2)

    def __neg__(self) -> Uncertain:
        return Uncertain(-self.value, self.variance)

    def sum(self, axis: int | tuple[int, ...], keepdims: bool = False) -> Uncertain:
        total = self.value.sum(axis, keepdims=keepdims)
        variance = np.broadcast_to(self.variance, self.value.shape) + self.value**2
        return Uncertain(total, variance.sum(axis, keepdims=keepdims) + total**2)

    def where(self, real: Array) -> Uncertain:
        """These values where real, and a zero that nobody computed elsewhere."""
        nothing = self.value.dtype.type(0)
        return Uncertain(
            np.where(real, self.value, nothing), np.where(real, self.variance, nothing)
        )


def exactly(value: Array) -> Uncertain:
    """Values that are given, not computed."""
    return Uncertain(value, value.dtype.type(0))


def contract(subscripts: str, one: Uncertain, other: Uncertain) -> Uncertain:
    """``numpy.einsum`` of two arrays."""

    def einsum(left: Array, right: Array) -> Array:
        return np.einsum(subscripts, left, right, optimize=left.dtype == np.float64)

    total = einsum(one.value, other.value)
    one_squared, other_squared = one.value**2, other.value**2
    variance = einsum(one_squared + one.variance, other_squared)
    if np.ndim(other.variance):
        variance = variance + einsum(one_squared, other.variance)
    return Uncertain(total, variance + total**2)


def relu(values: Uncertain) -> Uncertain:
    return values.where(values.value > 0)


def sigmoid(logits: Uncertain) -> Uncertain:
    a = 1 / (1 + np.exp(-logits.value))
    return Uncertain(a, (a * (1 - a)) ** 2 * (logits.variance + 1) + 2 * a**2)


def softmax(logits: Uncertain, real: Array) -> Uncertain:
    """Softmax over the last axis among real positions; zero where nothing is real."""
    if logits.value.shape[-1] == 0:
        return logits
    highest = np.where(real, logits.value, -np.inf).max(-1, keepdims=True)
    below = np.where(real, logits.value - np.where(highest > -np.inf, highest, 0), 0)
    exponentials = np.where(real, np.exp(below), 0)
    total = exponentials.sum(-1, keepdims=True)
    a = exponentials / np.where(total > 0, total, 1)
    of_exponential = logits.variance + below**2 + 1
    of_total = (a**2 * (of_exponential + 1)).sum(-1, keepdims=True) + 1
    return Uncertain(a, a**2 * (of_exponential + of_total + 1))
