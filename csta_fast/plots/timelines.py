"""The attention to frames, over time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import ConnectionPatch
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from csta_fast.data.layouts import Layout
from csta_fast.plots.drawing import DARK, OF_PERSON, disc_scale, figure, joint_bar, reach, styled
from csta_fast.plots.inputs import (
    Array,
    Values,
    array,
    attended,
    positive_rate,
    real_lengths,
    relative,
)
from csta_fast.plots.skeletons import Panels, panels
from csta_fast.plots.views import Persons, key_frames


def times(frames: int, rate: float | None) -> Array:
    """Where frames are on a time axis: their numbers, or seconds at a rate in frames a second."""
    positive_rate(rate)
    return np.arange(frames) / (rate or 1)


def time_label(rate: float | None) -> str:
    return "frame" if rate is None else "time (s)"


def draw_curves(
    axes: Axes,
    weights: Array,
    lengths: NDArray[np.int64],
    rate: float | None = None,
    colours: Sequence[str] = OF_PERSON,
) -> None:
    """Relative frame weights (M, T) over time, and the level of uniform ones."""
    moments = times(weights.shape[1], rate)
    there = [person for person in range(len(weights)) if weights[person].any()]
    for person in there:
        real = slice(lengths[person])
        colour = colours[person % len(colours)]
        label = f"person {person + 1}" if len(there) > 1 else None
        axes.plot(moments[real], weights[person, real], color=colour, linewidth=1.2, label=label)
        if len(there) == 1:
            axes.fill_between(moments[real], weights[person, real], color=colour, alpha=0.15,
                              linewidth=0)  # fmt: skip
    axes.axhline(1, color=DARK, linewidth=0.8, linestyle=(0, (4, 3)), zorder=1)
    half = 0.5 * (moments[1] if len(moments) > 1 else 1)
    axes.set_xlim(moments[0] - half, moments[-1] + half)
    axes.set_ylim(0, reach(weights))
    axes.yaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
    axes.set_ylabel("frame weight\n(× uniform)")
    if len(there) > 1:
        axes.legend(frameon=False, loc="upper right", ncols=len(there), handlelength=1.2)


def shade(axes: Axes, shaded: Values | None, frames: int, rate: float | None = None) -> None:
    """A grey band behind the frames (T,) that are chosen."""
    if shaded is None:
        return
    chosen = array("shaded", shaded)
    if chosen.shape != (frames,):
        raise ValueError(f"shaded: wanted (T,) = ({frames},), got {chosen.shape}")
    steps = np.diff(np.concatenate([[0], chosen != 0, [0]]).astype(np.int64))
    step = 1 / (rate or 1)
    for start, stop in zip(np.flatnonzero(steps > 0), np.flatnonzero(steps < 0), strict=True):
        axes.axvspan((start - 0.5) * step, (stop - 0.5) * step, color="0.92", linewidth=0, zorder=0)


def connect(
    axes: Axes, places: list[Axes], drawn: Panels, weights: Array, rate: float | None
) -> None:
    """A thin line from every panel down to its frame on the curve of weights (T,)."""
    moments = times(len(weights), rate)
    for frame, place in zip(drawn.frames, places, strict=True):
        left, right, bottom, _ = drawn.bounds[drawn.frames.index(frame)]
        line = ConnectionPatch(
            ((left + right) / 2, bottom), (moments[frame], weights[frame]),
            "data", "data", axesA=place, axesB=axes, color="0.7", linewidth=0.6,
        )  # fmt: skip
        line.set_in_layout(False)
        axes.figure.add_artist(line)
        axes.plot(moments[frame], weights[frame], "o", color=DARK, markersize=2.5, zorder=3)


@styled
def timeline(
    frame_weights: Values,
    lengths: Values | None = None,
    *,
    positions: Values | None = None,
    joint_weights: Values | None = None,
    layout: Layout | str | None = None,
    count: int = 4,
    shaded: Values | None = None,
    group: int | None = None,
    turn: float = 25.0,
    persons: Persons = "scene",
    rate: float | None = None,
    width: float = 5.5,
) -> Figure:
    """Draw the frame weights over time, with the level of uniform weights.

    A weight is relative to a uniform one: 1 over the number of real frames. With positions, the
    skeletons of the heaviest frames stand above their peaks.

    Args:
        frame_weights: (T,), (G, T) or (M, G, T) of several people, at least 0.
        lengths: how many frames are real, an integer or (M,); all of them if None. Weights
            beyond must be 0.
        positions, joint_weights, layout: as for `skeleton`, all three or none.
        count: how many skeletons.
        shaded: (T,), True for frames to shade, such as those that are known to tell the action.
        group, turn, persons, rate: as for `skeleton`.
        width: of the figure, in inches.

    Raises:
        TypeError, ValueError: an argument is not as above; the message says which, and why.
    """
    if positions is None or joint_weights is None or layout is None:
        if not positions is joint_weights is layout is None:
            raise ValueError("positions, joint_weights, layout: wanted all three or none")
        weights = relative("frame_weights", frame_weights, "T", group=group,
                           lengths=lengths).mean(1)  # fmt: skip
        result = figure(width, 1.7)
        axes = result.subplots()
        real = real_lengths(lengths, *weights.shape)
        draw_curves(axes, weights, real, rate)
    else:
        sample = attended(positions, frame_weights, joint_weights, layout, lengths, group)
        weights = sample.over_frames
        drawn = panels(sample, key_frames(weights.mean(0), count), turn, persons)
        result = figure(width, 3.6)
        scale = disc_scale(sample.over_joints, 1.8)
        grid = result.add_gridspec(2, len(drawn.frames), height_ratios=(1.9, 1.4),
                                   width_ratios=drawn.widths)  # fmt: skip
        places = [result.add_subplot(grid[0, panel]) for panel in range(len(drawn.frames))]
        axes = result.add_subplot(grid[1, :])
        drawn.draw(places, sample, scale, rate=rate, weighed=False)
        draw_curves(axes, weights, sample.lengths, rate)
        connect(axes, places, drawn, weights.max(0), rate)
        joint_bar(result, places, scale)
    shade(axes, shaded, weights.shape[1], rate)
    axes.set_xlabel(time_label(rate))
    return result
