"""What a figure of csta_fast.plots holds, for the tests that read it back."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.figure import Figure

from csta_fast.data import LAYOUTS

LAYOUT = LAYOUTS["kinect-v2"]
FRAMES, JOINTS = 40, 25


def softmax(*shape: int, seed: int = 0) -> np.ndarray:
    """Weights (..., L) as the layer gives them."""
    weights = np.exp(np.random.default_rng(seed).normal(size=shape))
    return weights / weights.sum(-1, keepdims=True)


def discs_of(axes: Axes) -> list[PathCollection]:
    """The joints of every person."""
    return [each for each in axes.collections if isinstance(each, PathCollection)]


def bones_of(axes: Axes) -> list[LineCollection]:
    """The bones of every person."""
    return [each for each in axes.collections if isinstance(each, LineCollection)]


def bodies_of(figure: Figure) -> list[Axes]:
    """Where people are drawn."""
    return [axes for axes in figure.axes if discs_of(axes)]


def by_label(figure: Figure, label: str) -> list[Axes]:
    """The axes of which either is called so."""
    return [axes for axes in figure.axes if label in (axes.get_ylabel(), axes.get_xlabel())]
