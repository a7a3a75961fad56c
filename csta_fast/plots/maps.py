"""The coupled attention itself, frames by joints, and overviews of one recording."""

from __future__ import annotations

import numpy as np
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpecBase, SubplotSpec
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from csta_fast.data.layouts import Layout
from csta_fast.plots.drawing import (
    COLOURS,
    DARK,
    colour_bar,
    disc_scale,
    figure,
    joint_bar,
    of_person,
    reach,
    spread,
    styled,
)
from csta_fast.plots.inputs import (
    Array,
    Values,
    attended,
    known_layout,
    real_lengths,
    relative,
)
from csta_fast.plots.skeletons import panels
from csta_fast.plots.timelines import connect, draw_curves, shade, time_label
from csta_fast.plots.views import Persons, key_frames

_ROW = 0.15  # inches of a joint's row


def coupled(frames: Array, joints: Array, lengths: NDArray[np.int64]) -> Array:
    """The maps (M, V, T), relative to uniform attention, of weights (M, G, T) and (M, G, V).

    The mean over groups of their outer products; NaN at frames that are not real.
    """
    maps = np.einsum("mgv,mgt->mvt", joints, frames) / frames.shape[1]
    beyond = np.arange(frames.shape[-1]) >= lengths[:, None]
    return np.where(beyond[:, None], np.nan, maps)


class _Column:
    """One person's map, with the weights of frames above it and those of joints at its right."""

    def __init__(self, where: Figure, grid: GridSpecBase, person: int) -> None:
        self.curve = where.add_subplot(grid[0, 2 * person])
        self.map = where.add_subplot(grid[1, 2 * person], sharex=self.curve)
        self.bars = where.add_subplot(grid[1, 2 * person + 1], sharey=self.map)

    def draw_map(self, over: Array, names: tuple[str, ...], norm: Normalize, step: float) -> None:
        """A map (V, T), `step` of the time axis to a frame."""
        self.map.imshow(
            over, COLOURS, norm, aspect="auto", interpolation="nearest",
            extent=(-0.5 * step, (over.shape[1] - 0.5) * step, len(names) - 0.5, -0.5),
        )  # fmt: skip
        self.map.set_yticks(range(len(names)), names)
        self.map.tick_params(axis="y", length=0)
        self.curve.tick_params(axis="x", labelbottom=False)

    def draw_bars(self, joints: Array, top: float, colour: str) -> None:
        """Joint weights (V,), on an axis that reaches to `top`."""
        self.bars.barh(range(len(joints)), joints, height=0.7, color=colour)
        self.bars.axvline(1, color=DARK, linewidth=0.8, linestyle=(0, (4, 3)))
        self.bars.set_xlim(0, top)
        self.bars.xaxis.set_major_locator(MaxNLocator(2, steps=[1, 2, 5, 10]))
        self.bars.set_xlabel("joint weight\n(× uniform)")
        self.bars.tick_params(axis="y", labelleft=False, length=0)


def _columns(
    where: Figure,
    cell: SubplotSpec,
    frames: Array,
    joints: Array,
    lengths: NDArray[np.int64],
    names: tuple[str, ...],
    rate: float | None,
    shaded: Values | None,
) -> list[_Column]:
    """The maps of everybody side by side, all at one scale, and a colour bar."""
    persons, _, size = frames.shape
    grid = cell.subgridspec(2, 2 * persons, width_ratios=(5, 1) * persons,
                            height_ratios=(1.1, _ROW * len(names)))  # fmt: skip
    maps = coupled(frames, joints, lengths)
    norm = spread(maps)
    over_frames, over_joints = frames.mean(1), joints.mean(1)
    columns = []
    for person in range(persons):
        column, colour = _Column(where, grid, person), of_person(person)
        draw_curves(column.curve, over_frames[[person]], lengths[[person]], rate, [colour])
        column.curve.set_ylim(0, reach(over_frames))
        shade(column.curve, shaded, size, rate)
        column.draw_map(maps[person], names, norm, 1 / (rate or 1))
        column.map.set_xlabel(time_label(rate))
        column.draw_bars(over_joints[person], reach(over_joints), colour)
        if person:
            column.map.tick_params(axis="y", labelleft=False)
            column.curve.tick_params(axis="y", labelleft=False)
            column.curve.set_ylabel("")
        if persons > 1:
            column.curve.set_title(f"person {person + 1}")
        columns.append(column)
    axes = [each for column in columns for each in (column.map, column.bars)]
    colour_bar(where, axes, norm, "coupled attention (× uniform)")
    return columns


@styled
def attention_map(
    frame_weights: Values,
    joint_weights: Values,
    layout: Layout | str,
    *,
    lengths: Values | None = None,
    shaded: Values | None = None,
    group: int | None = None,
    rate: float | None = None,
    width: float = 5.5,
) -> Figure:
    """Draw the coupled attention, frames by joints, with the weights of both on its margins.

    The map is the outer product of the frame weights and the joint weights, relative to a uniform
    one, 1 / (T V) with T real frames; of several groups it is the mean of their products.

    Args:
        frame_weights: (T,), (G, T) or (M, G, T) of several people, at least 0.
        joint_weights: (V,), (G, V) or (M, G, V), with as many groups and people.
        layout: of the joints, or its name.
        lengths: how many frames are real, an integer or (M,); all of them if None.
        shaded: (T,), True for frames to shade above the map.
        group: the group to draw; the mean of all groups if None.
        rate: frames a second, for an axis in seconds.
        width: of the figure for one person, in inches.

    Raises:
        TypeError, ValueError: an argument is not as above; the message says which, and why.
    """
    layout = known_layout(layout)
    joints = relative("joint_weights", joint_weights, "V", size=len(layout.joints), group=group)
    frames = relative("frame_weights", frame_weights, "T", persons=len(joints), group=group,
                      lengths=lengths)  # fmt: skip
    same_groups(frames, joints)
    real = real_lengths(lengths, len(frames), frames.shape[-1])
    result = figure(width + 0.7 * width * (len(frames) - 1), 1.9 + _ROW * len(layout.joints))
    cell = result.add_gridspec(1, 1)[0]
    _columns(result, cell, frames, joints, real, layout.joints, rate, shaded)
    return result


def same_groups(frames: Array, joints: Array) -> None:
    if frames.shape[1] != joints.shape[1]:
        raise ValueError(
            f"joint_weights: wanted as many groups G as frame_weights, got {joints.shape[1]} "
            f"beside {frames.shape[1]}"
        )


@styled
def overview(
    positions: Values,
    frame_weights: Values,
    joint_weights: Values,
    layout: Layout | str,
    *,
    count: int = 5,
    lengths: Values | None = None,
    shaded: Values | None = None,
    group: int | None = None,
    turn: float = 25.0,
    persons: Persons = "scene",
    rate: float | None = None,
    title: str | None = None,
    width: float = 6.5,
) -> Figure:
    """Draw all about one recording: its key frames, and below them the map with both margins.

    Args:
        positions, frame_weights, joint_weights, layout, lengths, group, turn, persons, rate: as
            for `skeleton`.
        count: how many key frames.
        shaded: (T,), True for frames to shade, such as those that are known to tell the action.
        title: of the figure.
        width: of the figure for one person, in inches.

    Raises:
        TypeError, ValueError: an argument is not as above; the message says which, and why.
    """
    sample = attended(positions, frame_weights, joint_weights, layout, lengths, group)
    same_groups(sample.frames, sample.joints)
    there = np.flatnonzero(sample.joints.any((1, 2)) & sample.frames.any((1, 2)))
    names = sample.layout.joints
    drawn = panels(sample, key_frames(sample.over_frames.mean(0), count), turn, persons)
    below = 1.9 + _ROW * len(names)
    result = figure(width + 0.5 * width * (len(there) - 1), below + 2.2)
    outer = result.add_gridspec(2, 1, height_ratios=(2.2, below))
    top = outer[0].subgridspec(1, len(drawn.frames), width_ratios=drawn.widths)
    places = [result.add_subplot(top[panel]) for panel in range(len(drawn.frames))]
    scale = disc_scale(sample.over_joints, 1.9)
    drawn.draw(places, sample, scale, rate=rate, weighed=False)
    columns = _columns(
        result, outer[1], sample.frames[there], sample.joints[there], sample.lengths[there], names,
        rate, shaded,
    )  # fmt: skip
    joint_bar(result, places, scale)
    if len(columns) == 1:
        connect(columns[0].curve, places, drawn, sample.over_frames[there[0]], rate)
    result.suptitle(title or "", fontsize=9)
    return result
