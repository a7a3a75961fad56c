"""What all pictures are put together from: bodies with discs, curves of frames, and scales."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, Literal, NamedTuple, ParamSpec, TypeVar

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.colorbar import Colorbar
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from csta_fast.data.layouts import Layout
from csta_fast.plots.inputs import Array
from csta_fast.plots.views import Scene

_P = ParamSpec("_P")
_R = TypeVar("_R")

#: Little is light, as the paper; perceptually uniform, and safe for the colour-blind.
COLOURS = "magma_r"
#: Of people's curves: blue, vermilion, green, purple of Okabe and Ito.
OF_PERSON = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")
GREY = "0.6"
DARK = "0.25"

_LARGEST_DISC = 0.07  # its diameter, in heights of the picture
_NARROWEST = 0.05  # a scale reaches so far to both sides of uniform weights, at least

# Which names and values are settings differs between versions of matplotlib.
_STYLE: Any = {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "figure.facecolor": "white",
}


def styled(draw: Callable[_P, _R]) -> Callable[_P, _R]:
    """The function under the style of this package; the user's own is untouched."""

    @wraps(draw)
    def inner(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        with matplotlib.rc_context(_STYLE):
            return draw(*args, **kwargs)

    return inner


def figure(
    width: float, height: float, layout: Literal["constrained", "compressed"] = "constrained"
) -> Figure:
    """An empty figure, in inches, that belongs to no window and no global state."""
    return Figure(figsize=(width, height), layout=layout, dpi=150)


def of_person(person: int) -> str:
    """The colour of a person's curve."""
    return OF_PERSON[person % len(OF_PERSON)]


def reach(relative: Array) -> float:
    """Where an axis of relative weights ends: uniform ones are half-way up, or less."""
    return 1.08 * max(2.0, float(relative.max()))


def spread(relative: Array) -> Normalize:
    """All colours over the weights (relative to uniform) that occur; NaN does not count.

    Weights that differ by rounding alone do not look as if they were outstanding: the scale never
    covers less than 5 % to both sides of uniform.
    """
    low, high = float(np.nanmin(relative)), float(np.nanmax(relative))
    return Normalize(min(low, 1 - _NARROWEST), max(high, 1 + _NARROWEST))


class DiscScale(NamedTuple):
    """How a joint's weight becomes a disc: its area is proportional to the weight."""

    norm: Normalize  # from a weight, relative to uniform, to a colour
    area: float  # of a disc of weight 1, in points squared


def disc_scale(relative: Array, height: float) -> DiscScale:
    """The scale for weights (people, V), relative to uniform, in pictures of a height in inches.

    People who are not there, whose weights are all 0, do not count.
    """
    there = relative[relative.any(-1)]
    largest = max(float(there.max()), 1 + _NARROWEST)
    return DiscScale(spread(there), (72 * height * _LARGEST_DISC) ** 2 / largest)


def draw_bodies(
    axes: Axes, scene: Scene, frame: int, relative: Array, layout: Layout, scale: DiscScale
) -> list[tuple[LineCollection, PathCollection]]:
    """Everybody in a frame: bones as lines, joints as discs by relative weights (M, V).

    Joints that are not there, bones that lack an end, and people with neither, are left out.
    """
    drawn = []
    for points, present, weights in zip(
        scene.points[:, frame], scene.present[:, frame], relative, strict=True
    ):
        if present.any():
            bones = draw_bones(axes, points, present, layout)
            drawn.append((bones, _discs(axes, points[present], weights[present], scale)))
    return drawn


def draw_bones(
    axes: Axes, points: Array, present: NDArray[np.bool_], layout: Layout
) -> LineCollection:
    """The bones between points (V, 2) that are there."""
    lines = [points[list(bone)] for bone in layout.bones if present[list(bone)].all()]
    collection = LineCollection(lines, colors=GREY, linewidths=1.4, capstyle="round", zorder=1)
    axes.add_collection(collection)
    return collection


def _discs(axes: Axes, points: Array, weights: Array, scale: DiscScale) -> PathCollection:
    # The heaviest last, on top.
    order = np.argsort(weights, kind="stable")
    return axes.scatter(
        points[order, 0],
        points[order, 1],
        s=scale.area * weights[order],
        c=weights[order],
        cmap=COLOURS,
        norm=scale.norm,
        edgecolors=DARK,
        linewidths=0.4,
        zorder=2,
    )


def frame_body(axes: Axes, bounds: tuple[float, float, float, float]) -> None:
    """Show what is within bounds, at one scale on both axes, and no axes."""
    left, right, bottom, top = bounds
    axes.set_xlim(left, right)
    axes.set_ylim(bottom, top)
    axes.set_aspect("equal")
    axes.axis("off")


def colour_bar(
    where: Figure, axes: Axes | list[Axes], norm: Normalize, label: str, aspect: float = 25
) -> Colorbar:
    """A colour bar beside axes, with its label."""
    bar = where.colorbar(
        ScalarMappable(norm, COLOURS), ax=axes, fraction=0.05, aspect=aspect, pad=0.02
    )
    bar.set_label(label)
    bar.outline.set_visible(False)
    return bar


def joint_bar(
    where: Figure, axes: Axes | list[Axes], scale: DiscScale, aspect: float = 25
) -> Colorbar:
    """The colour bar of joints' discs."""
    bar = colour_bar(where, axes, scale.norm, "joint weight (× uniform)", aspect)
    bar.ax.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    return bar
