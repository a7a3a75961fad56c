"""Moving pictures of a recording and its attention."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np
from matplotlib.animation import AbstractMovieWriter, FFMpegWriter, PillowWriter
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from csta_fast.data.layouts import Layout
from csta_fast.plots.drawing import (
    DARK,
    GREY,
    OF_PERSON,
    DiscScale,
    disc_scale,
    draw_bodies,
    figure,
    frame_body,
    joint_bar,
    reach,
    styled,
)
from csta_fast.plots.inputs import Attended, Values, attended, positive_rate
from csta_fast.plots.timelines import shade, time_label, times
from csta_fast.plots.views import Persons, Scene, project

_MARGIN = 0.08
_SHOWN = 15.0  # frames a second, where it is not known how fast they were recorded


class _Stage:
    """A figure that shows one frame after the other: people above, bars of all frames below."""

    def __init__(
        self,
        sample: Attended,
        scene: Scene,
        rate: float | None,
        shaded: Values | None,
        title: str | None,
        height: float,
    ) -> None:
        left, right, bottom, top = scene.bounds()
        space = _MARGIN * max(top - bottom, 1e-9)
        bounds = (left - space, right + space, bottom - space, top + space)
        share = (bounds[1] - bounds[0]) / (bounds[3] - bounds[2])
        self.sample, self.scene, self.bounds = sample, scene, bounds
        self.scale: DiscScale = disc_scale(sample.over_joints, 0.72 * height)
        self.figure: Figure = figure(max(0.72 * height * share, 0.8 * height) + 0.9, height)
        FigureCanvasAgg(self.figure)
        self.people, below = self.figure.subplots(2, 1, height_ratios=(0.78, 0.22))
        frame_body(self.people, bounds)
        weights = sample.over_frames.mean(0)
        step = 1 / (rate or 1)
        self.bars = below.bar(times(len(weights), rate), weights, width=0.8 * step, color=GREY)
        below.axhline(1, color=DARK, linewidth=0.8, linestyle=(0, (4, 3)))
        below.set_xlim(-0.5 * step, (len(weights) - 0.5) * step)
        below.set_ylim(0, reach(weights))
        below.set_xlabel(time_label(rate))
        below.set_ylabel("frame weight\n(× uniform)")
        shade(below, shaded, len(weights), rate)
        joint_bar(self.figure, self.people, self.scale)
        # Broken at spaces, about 13 characters to an inch.
        width = int(13 * self.figure.get_figwidth())
        lines = [fill(line, width) for line in (title or "").splitlines()]
        self.figure.suptitle("\n".join(lines), fontsize=9)
        self.figure.draw_without_rendering()
        # Every frame is laid out alike.
        self.figure.set_layout_engine("none")

    def show(self, frame: int) -> None:
        """People as they are in a frame, and its bar in colour."""
        for drawn in [*self.people.collections]:
            drawn.remove()
        joints, layout = self.sample.over_joints, self.sample.layout
        draw_bodies(self.people, self.scene, frame, joints, layout, self.scale)
        frame_body(self.people, self.bounds)
        self.bars[frame - 1].set_color(GREY)
        self.bars[frame].set_color(OF_PERSON[1])


def _writer(path: Path, rate: Any) -> AbstractMovieWriter:
    suffix = path.suffix.lower()
    if suffix == ".gif":
        return PillowWriter(fps=rate)
    if suffix != ".mp4":
        raise ValueError(f"path: wanted a name that ends in .gif or .mp4, got {path}")
    if not FFMpegWriter.isAvailable():
        raise ValueError("path: .mp4 needs the program ffmpeg, which is not there; wanted .gif")
    return FFMpegWriter(fps=rate)


@styled
def clip(
    path: str | PathLike[str],
    positions: Values,
    frame_weights: Values,
    joint_weights: Values,
    layout: Layout | str,
    *,
    rate: float | None = None,
    lengths: Values | None = None,
    shaded: Values | None = None,
    title: str | None = None,
    group: int | None = None,
    turn: float = 25.0,
    persons: Persons = "scene",
    height: float = 4.0,
    dpi: int = 100,
) -> Path:
    """Write a recording as a clip: discs say the joints' weights, bars those of the frames.

    The bar of the frame that is shown is coloured. Of several people the bars show the mean.

    Args:
        path: of the file, .gif, or .mp4 where the program ffmpeg is installed.
        positions, frame_weights, joint_weights, layout, lengths, group, turn, persons: as for
            `skeleton`. Only real frames are written.
        rate: frames a second of the recording, for an axis in seconds and a clip at that speed;
            without it the axis counts frames, and 15 of them are shown in a second. A GIF counts
            in hundredths of a second: 30 become 33.
        shaded: (T,), True for frames to shade, such as those that are known to tell the action.
        title: of the clip.
        height: of the picture, in inches of `dpi` dots.

    Returns:
        The path of the file.

    Raises:
        TypeError, ValueError: an argument is not as above; the message says which, and why.
    """
    path = Path(path)
    positive_rate(rate)
    writer = _writer(path, rate or _SHOWN)
    sample = attended(positions, frame_weights, joint_weights, layout, lengths, group)
    scene = project(sample.positions, sample.layout, turn, persons)
    stage = _Stage(sample, scene, rate, shaded, title, height)
    with writer.saving(stage.figure, str(path), dpi):
        for frame in range(int(np.max(sample.lengths))):
            stage.show(frame)
            writer.grab_frame()
    return path
