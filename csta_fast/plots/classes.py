"""What the attention looks at in each class, and which classes are taken for which."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import fill
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from csta_fast.data.layouts import Layout
from csta_fast.plots.drawing import (
    COLOURS,
    DARK,
    OF_PERSON,
    colour_bar,
    disc_scale,
    draw_bodies,
    figure,
    frame_body,
    joint_bar,
    reach,
    styled,
)
from csta_fast.plots.inputs import (
    Array,
    Attended,
    Values,
    array,
    attended,
    known_layout,
    positive_rate,
)
from csta_fast.plots.timelines import time_label, times
from csta_fast.plots.views import Scene, project

_EXPLANATION = (
    "Skeletons: the mean pose in the frames that weigh most, every joint a disc that is larger and "
    "darker the more it weighs. The three joints that weigh most are named. "
    "A weight of 1 is that of uniform attention."
)


class _Clock(NamedTuple):
    """The moments at which curves of recordings are averaged."""

    shares: Array  # of a recording's time, from 0 at its first frame to 1 at its last
    moments: Array  # the same on the axis
    label: str

    @staticmethod
    def of(lengths: set[int], rate: float | None) -> _Clock:
        """Frames, or seconds, where all recordings have as many; percents where they do not."""
        if len(lengths) > 1:
            shares = np.linspace(0, 1, 51)
            return _Clock(shares, 100 * shares, "time (% of the recording)")
        (frames,) = lengths
        return _Clock(np.linspace(0, 1, frames), times(frames, rate), time_label(rate))


class _Mean(NamedTuple):
    """The mean over the recordings of a class, of everybody in them."""

    pose: Array  # (V, 2), about the centre, in heights of the body
    present: Array  # (V,), how many poses have the joint
    joints: Array  # (V,), relative
    frames: Array  # (recordings, moments), relative


@styled
def class_overview(
    positions: Sequence[Values],
    frame_weights: Sequence[Values],
    joint_weights: Sequence[Values],
    labels: Sequence[int],
    layout: Layout | str,
    classes: Sequence[str],
    *,
    columns: int = 5,
    group: int | None = None,
    turn: float = 25.0,
    rate: float | None = None,
    title: str | None = None,
) -> Figure:
    """Draw, for every class that occurs, the mean attention to joints and to frames.

    The skeleton is the mean of the people's poses, seen from the front and scaled to one height,
    each frame as heavy as its weight. Its discs are the mean joint weights, and the three heaviest
    joints are named. The curve is the mean frame weight from the start of a recording to its end;
    half of the recordings lie in the band. All of that stands in the figure, too.

    Args:
        positions: of every recording, (T, V, D) or (M, T, V, D); T and M may differ.
        frame_weights: of every recording, (T,), (G, T) or (M, G, T).
        joint_weights: of every recording, (V,), (G, V) or (M, G, V).
        labels: of every recording, or what the model takes it for.
        layout: of the joints, or its name.
        classes: a name for every label.
        columns: how many classes stand side by side.
        group: the group to draw; the mean of all groups if None.
        turn: degrees from the front view.
        rate: frames a second, for an axis in seconds. Recordings that differ in length have one
            in percent of their time.
        title: of the figure; it should say which recordings, and which weights of a network.

    Raises:
        TypeError, ValueError: an argument is not as above; the message says which, and why.
    """
    layout = known_layout(layout)
    positive_rate(rate)
    counts = {len(positions), len(frame_weights), len(joint_weights), len(labels)}
    if len(counts) > 1 or 0 in counts:
        raise ValueError(
            "positions, frame_weights, joint_weights, labels: wanted one of each for every "
            f"recording, got {len(positions)}, {len(frame_weights)}, {len(joint_weights)} and "
            f"{len(labels)}"
        )
    wrong = [label for label in labels if not 0 <= label < len(classes)]
    if wrong:
        raise ValueError(f"labels: wanted 0 to {len(classes) - 1}, got {wrong[0]}")
    if columns < 1:
        raise ValueError(f"columns: wanted at least 1, got {columns}")
    samples: dict[int, list[Attended]] = {}
    for row, label in enumerate(labels):
        sample = attended(positions[row], frame_weights[row], joint_weights[row], layout, None,
                          group)  # fmt: skip
        samples.setdefault(label, []).append(sample)
    lengths = {one.frames.shape[-1] for some in samples.values() for one in some}
    clock = _Clock.of(lengths, rate)
    means = {label: _mean(samples[label], turn, clock) for label in sorted(samples)}
    result = _grid(means, layout, classes, columns, clock)
    result.suptitle(title or "", fontsize=10)
    return result


def _grid(
    means: dict[int, _Mean], layout: Layout, classes: Sequence[str], columns: int, clock: _Clock
) -> Figure:
    columns = min(columns, len(means))
    rows = -(-len(means) // columns)
    # At least as wide as its legend.
    result = figure(max(1.45 * columns + 1.0, 5.0), 3.5 * rows + 0.8)
    scale = disc_scale(np.stack([mean.joints for mean in means.values()]), 2.1)
    top = reach(np.stack([mean.frames.mean(0) for mean in means.values()]))
    grid = result.add_gridspec(2 * rows, columns, height_ratios=(2.2, 0.9) * rows)
    bodies: list[Axes] = []
    for place, (label, mean) in enumerate(means.items()):
        row, column = divmod(place, columns)
        body = result.add_subplot(grid[2 * row, column])
        curve = result.add_subplot(grid[2 * row + 1, column])
        scene = Scene(mean.pose[None, None], (mean.present > 0)[None, None])
        draw_bodies(body, scene, 0, mean.joints[None], layout, scale)
        frame_body(body, (-0.42, 0.42, -0.58, 0.58))
        heaviest = np.argsort(-mean.joints, kind="stable")[:3]
        body.set_title(fill(classes[label], 18), fontweight="bold")
        curve.set_title("\n".join(layout.joints[joint] for joint in heaviest), fontsize=6.5,
                        color=DARK)  # fmt: skip
        _curve(curve, mean.frames, top, clock)
        if column == 0:
            curve.set_ylabel("frame weight\n(× uniform)")
        else:
            curve.tick_params(axis="y", labelleft=False)
        if place + columns >= len(means):
            curve.set_xlabel(clock.label)
        else:
            curve.tick_params(axis="x", labelbottom=False)
        bodies.append(body)
    joint_bar(result, bodies, scale, 25 * rows)
    handles, labels = curve.get_legend_handles_labels()
    result.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False,
                  title=fill(_EXPLANATION, int(15 * result.get_figwidth())),
                  title_fontsize=7.5, alignment="center")  # fmt: skip
    return result


def _curve(axes: Axes, frames: Array, top: float, clock: _Clock) -> None:
    low, high = np.percentile(frames, [25, 75], axis=0)
    axes.plot(clock.moments, frames.mean(0), color=OF_PERSON[0], linewidth=1.2,
              label="mean of the recordings")  # fmt: skip
    axes.fill_between(clock.moments, low, high, color=OF_PERSON[0], alpha=0.2, linewidth=0,
                      label="middle half of them")  # fmt: skip
    axes.axhline(1, color=DARK, linewidth=0.8, linestyle=(0, (4, 3)), zorder=1,
                 label="uniform weights")  # fmt: skip
    axes.set_xlim(clock.moments[0], max(clock.moments[-1], 1e-9))
    axes.xaxis.set_major_locator(MaxNLocator(3))
    axes.set_ylim(0, top)


def _mean(samples: Sequence[Attended], turn: float, clock: _Clock) -> _Mean:
    poses, present, joints, curves = [], [], [], []
    for sample in samples:
        scene = project(sample.positions, sample.layout, turn, "apart")
        weights = sample.over_frames[:, :, None] * scene.present
        sums = weights.sum(1)
        pose = (weights[..., None] * scene.points).sum(1) / np.maximum(sums, 1e-12)[..., None]
        for person in np.flatnonzero(sums.any(1) & sample.joints.any((1, 2))):
            tracked = sums[person] > 0
            poses.append(_scaled(pose[person], tracked, sample.layout))
            present.append(tracked)
            joints.append(sample.over_joints[person])
            curves.append(np.interp(clock.shares, np.linspace(0, 1, sample.frames.shape[-1]),
                                    sample.over_frames[person]))  # fmt: skip
    seen = np.stack(present)
    count = seen.sum(0)
    pose = (np.stack(poses) * seen[..., None]).sum(0) / np.maximum(count, 1)[:, None]
    return _Mean(pose, count, np.mean(joints, axis=0), np.stack(curves))


def _scaled(pose: Array, tracked: Array, layout: Layout) -> Array:
    """A pose (V, 2) in heights of its body, about the middle of what is tracked."""
    low, high = pose[tracked].min(0), pose[tracked].max(0)
    return np.asarray((pose - (low + high) / 2) / max(high[1] - low[1], 1e-12))


@styled
def confusion(matrix: Values, classes: Sequence[str], *, title: str | None = None) -> Figure:
    """Draw a confusion matrix, every row in percent of the recordings of its class.

    What never happened is left white. Up to 30 classes, the percentages are written.

    Args:
        matrix: (K, K) counts, at least 0: rows are the true classes, columns the predicted ones.
        classes: K names.
        title: of the figure.

    Raises:
        TypeError, ValueError: an argument is not as above; the message says which, and why.
    """
    counts = array("matrix", matrix, signed=False)
    size = len(classes)
    if counts.shape != (size, size) or size == 0:
        raise ValueError(f"matrix: wanted (K, K) with the K = {size} classes, got {counts.shape}")
    sums = counts.sum(1)
    percent = 100 * counts / np.where(sums > 0, sums, np.nan)[:, None]
    written = size <= 30
    cell = 0.3 if written else 0.14
    words = 0.06 * max(len(name) for name in classes)  # inches
    result = figure(words + cell * size + 1.6, 0.8 * words + cell * size + 0.9, "compressed")
    axes = result.subplots()
    norm = Normalize(0, 100)
    axes.imshow(np.where(counts > 0, percent, np.nan), COLOURS, norm, interpolation="nearest")
    angle = 45 if written else 90
    axes.set_xticks(range(size), classes, rotation=angle, ha="right",
                    va="top" if written else "center", rotation_mode="anchor")  # fmt: skip
    axes.set_yticks(range(size), [f"{name} ({count:g})" for name, count
                                  in zip(classes, sums, strict=True)])  # fmt: skip
    axes.tick_params(length=0)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class (recordings)")
    if written:
        for row, column in np.argwhere(counts > 0):
            value = percent[row, column]
            axes.text(column, row, f"{value:.0f}", ha="center", va="center", fontsize=6.5,
                      color="white" if value > 50 else "black")  # fmt: skip
    colour_bar(result, axes, norm, "of the true class (%)")
    if title is None and counts.any():
        title = f"accuracy {100 * np.trace(counts) / counts.sum():.1f} %"
    axes.set_title(title or "")
    return result
