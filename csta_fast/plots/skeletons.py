"""Skeletons at a few key frames, with the attention to joints as discs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from csta_fast.data.layouts import Layout
from csta_fast.plots.drawing import (
    DiscScale,
    disc_scale,
    draw_bodies,
    figure,
    frame_body,
    joint_bar,
    styled,
)
from csta_fast.plots.inputs import Attended, Values, attended, chosen_frames, positive_rate
from csta_fast.plots.views import Persons, Scene, key_frames, project

_MARGIN = 0.1  # around a body, in heights of the scene


class Panels(NamedTuple):
    """Frames of a recording that are drawn beside each other, at one scale and on one floor."""

    frames: list[int]
    scene: Scene  # of these frames alone
    bounds: list[tuple[float, float, float, float]]  # of every panel

    @property
    def widths(self) -> list[float]:
        """In heights of the panels."""
        return [(right - left) / (top - bottom) for left, right, bottom, top in self.bounds]

    def draw(
        self,
        axes: Sequence[Axes],
        sample: Attended,
        scale: DiscScale,
        *,
        rate: float | None = None,
        weighed: bool = True,
    ) -> None:
        """Every frame into its axes, titled by its time and, if `weighed`, its weight."""
        for panel, (frame, place) in enumerate(zip(self.frames, axes, strict=True)):
            draw_bodies(place, self.scene, panel, sample.over_joints, sample.layout, scale)
            frame_body(place, self.bounds[panel])
            title = f"frame {frame}" if rate is None else f"{frame / rate:.2f} s"
            if weighed:
                title += f"\nweight {sample.over_frames[:, frame].mean():.2g}"
            place.set_title(title)


def panels(sample: Attended, frames: list[int], turn: float, persons: Persons) -> Panels:
    """Panels of some frames of a sample."""
    scene = project(sample.positions, sample.layout, turn, persons).at(frames)
    _, _, bottom, top = scene.bounds()
    space = _MARGIN * max(top - bottom, 1e-9)
    bounds = []
    for panel in range(len(frames)):
        left, right, _, _ = scene.bounds(panel)
        middle, half = (left + right) / 2, max(right - left, 0.4 * (top - bottom)) / 2 + space
        bounds.append((middle - half, middle + half, bottom - space, top + space))
    return Panels(frames, scene, bounds)


@styled
def skeleton(
    positions: Values,
    joint_weights: Values,
    layout: Layout | str,
    *,
    frame_weights: Values | None = None,
    frame: int | Sequence[int] | None = None,
    count: int = 4,
    lengths: Values | None = None,
    group: int | None = None,
    turn: float = 25.0,
    persons: Persons = "scene",
    rate: float | None = None,
    height: float = 2.6,
) -> Figure:
    """Draw a recording's key frames: bones as lines, joints as discs.

    The area of a disc is proportional to the joint's weight; its colour says the weight relative
    to a uniform one, 1 / V. Joints at exactly 0 were not tracked and are not drawn.

    Args:
        positions: (T, V, D), or (M, T, V, D) of several people; D is 2 or 3.
        joint_weights: (V,), (G, V), or (M, G, V) of several people, at least 0.
        layout: of the joints, or its name.
        frame_weights: (T,), (G, T) or (M, G, T): the heaviest frames are drawn. Without them,
            frames spread evenly.
        frame: the frames to draw instead, one or several.
        count: how many frames to draw, where `frame` does not say which.
        lengths: how many frames are real, an integer or (M,); all of them if None.
        group: the group to draw; the mean of all groups if None.
        turn: degrees from the front view, about the vertical; movements in depth show if it is
            not 0. Ignored for D = 2.
        persons: "scene" leaves people where they are, seen from where the first is on the left;
            "apart" shows everyone from the front, side by side.
        rate: frames a second, to name frames by seconds.
        height: of the figure, in inches.

    Raises:
        TypeError, ValueError: an argument is not as above; the message says which, and why.
    """
    positive_rate(rate)
    sample = attended(positions, frame_weights, joint_weights, layout, lengths, group)
    if frame is None:
        frames = key_frames(sample.over_frames.mean(0), count)
    else:
        frames = chosen_frames(frame, sample.positions.shape[1])
    drawn = panels(sample, frames, turn, persons)
    result = figure(0.85 * height * sum(drawn.widths) + 0.8, height)
    axes = list(result.subplots(1, len(frames), width_ratios=drawn.widths, squeeze=False)[0])
    scale = disc_scale(sample.over_joints, height)
    drawn.draw(axes, sample, scale, rate=rate, weighed=frame_weights is not None)
    joint_bar(result, axes, scale)
    return result
