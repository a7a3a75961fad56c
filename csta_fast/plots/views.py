"""From positions in space to points on paper, and which frames to show."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from csta_fast.data.layouts import Layout
from csta_fast.plots.inputs import Array

Persons = Literal["scene", "apart"]

_GAP = 0.35  # between people drawn apart, in heights of a body


class Scene(NamedTuple):
    """People on paper, y up, in the unit of their positions."""

    points: Array  # (M, T, V, 2)
    present: NDArray[np.bool_]  # (M, T, V): tracked, that is, not at exactly 0

    def at(self, frames: list[int]) -> Scene:
        """Some frames of it."""
        return Scene(self.points[:, frames], self.present[:, frames])

    def bounds(self, frame: int | None = None) -> tuple[float, float, float, float]:
        """(left, right, bottom, top) of everybody in a frame, or in all of them."""
        chosen = slice(None) if frame is None else slice(frame, frame + 1)
        points = self.points[:, chosen][self.present[:, chosen]]
        if not len(points):
            return (-1.0, 1.0, -1.0, 1.0)
        (left, bottom), (right, top) = points.min(0), points.max(0)
        return float(left), float(right), float(bottom), float(top)


def project(positions: Array, layout: Layout, turn: float, persons: Persons) -> Scene:
    """The points (M, T, V, 2) that positions (M, T, V, D) are drawn at.

    Two coordinates are drawn as they are, with up turned up. Three are seen from the front and
    turned about the vertical: the front is where the right shoulder is on the left of the paper
    or, for people in one scene, where the first is on the left and the last on the right.

    Raises:
        ValueError: `persons` is neither "scene" nor "apart", or `turn` is not finite.
    """
    if persons not in ("scene", "apart"):
        raise ValueError(f"persons: wanted 'scene' or 'apart', got {persons!r}")
    if not np.isfinite(turn):
        raise ValueError(f"turn: wanted degrees, got {turn}")
    present = (positions != 0).any(-1)
    if positions.shape[-1] == 2:
        axis, sign = layout.up
        points = np.stack([positions[..., 1 - axis], sign * positions[..., axis]], -1)
    elif persons == "scene" and present.any((1, 2)).sum() > 1:
        across = _between(positions, present, layout)
        points = _onto(positions, across, layout, turn)
    else:
        points = np.stack([
            _onto(each, _shoulders(each, tracked, layout), layout, turn)
            for each, tracked in zip(positions, present, strict=True)
        ])  # fmt: skip
    scene = Scene(points, present)
    return _side_by_side(scene) if persons == "apart" else scene


def _onto(positions: Array, across: Array, layout: Layout, turn: float) -> Array:
    """(..., 2) of (..., 3): along a horizontal direction that is turned, and up."""
    up = layout.upwards.astype(np.float64)
    angle = np.radians(turn)
    across = np.cos(angle) * across + np.sin(angle) * np.cross(up, across)
    return np.stack([positions @ across, positions @ up], -1)


def _horizontal(direction: Array, layout: Layout) -> Array:
    """The unit vector in the horizontal part of a direction, or along an axis if that is zero."""
    up = layout.upwards.astype(np.float64)
    flat = direction - up * (direction @ up)
    if np.linalg.norm(flat) < 1e-6:
        flat = np.eye(3)[1 if layout.up[0] == 0 else 0]
    return np.asarray(flat / np.linalg.norm(flat))


def _shoulders(positions: Array, present: NDArray[np.bool_], layout: Layout) -> Array:
    """From the right shoulder to the left, on the whole."""
    right, left = layout.shoulders
    both = present[:, right] & present[:, left]
    difference = positions[both, left] - positions[both, right]
    return _horizontal(difference.sum(0), layout)


def _between(positions: Array, present: NDArray[np.bool_], layout: Layout) -> Array:
    """From the first person to the last who is there, on the whole."""
    there = np.flatnonzero(present.any((1, 2)))
    first, last = (positions[each][present[each]].mean(0) for each in (there[0], there[-1]))
    return _horizontal(last - first, layout)


def _side_by_side(scene: Scene) -> Scene:
    """Everybody moved aside, so that nobody stands before another."""
    points = scene.points.copy()
    right = 0.0
    for person in np.flatnonzero(scene.present.any((1, 2))):
        one = Scene(points[person : person + 1], scene.present[person : person + 1])
        low, high, bottom, top = one.bounds()
        points[person] += (right - low, -bottom)
        right += high - low + _GAP * (top - bottom)
    return Scene(points, scene.present)


def key_frames(weights: Array, count: int) -> list[int]:
    """The heaviest frames of (T,), in order of time, no two of them close together.

    Frames spread evenly where all weigh the same. Fewer than `count` if there are not so many.
    """
    if count < 1:
        raise ValueError(f"count: wanted at least 1, got {count}")
    frames = len(weights)
    count = min(count, frames)
    real = weights[weights > 0]
    if np.ptp(real) < 1e-6:
        return [int(each) for each in (np.arange(count) + 0.5) * len(real) / count]
    distance = frames / (2 * count)
    left, found = weights.copy(), list[int]()
    while len(found) < count and (left > 0).any():
        found.append(int(left.argmax()))
        left[np.abs(np.arange(frames) - found[-1]) < distance] = 0
    return sorted(found)
