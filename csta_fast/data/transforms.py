"""The field's normalisations and crops: functions of positions (M, T, V, D).

M persons, T frames, V joints, D coordinates, float32. A joint or person that was not tracked lies
at exactly 0 and stays there. What is relative to the body's centre has that joint there, too, so
crops and fits come before it. No function changes what it is given.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from csta_fast.data.layouts import Layout

Positions = NDArray[np.float32]
Normalisation = Literal["none", "first", "frame", "aligned"]


def tracked(positions: Positions) -> NDArray[np.bool_]:
    """Which joints (M, T, V) were tracked: those that are not exactly at 0."""
    seen: NDArray[np.bool_] = np.any(positions != 0, axis=-1)
    return seen


def normalise(positions: Positions, layout: Layout, how: Normalisation = "first") -> Positions:
    """Positions relative to the first person's body.

    Args:
        positions: (M, T, V, D).
        layout: says which joint is the centre, and what points where.
        how: "none"; "first", relative to the centre joint in the first frame that shows it
            (CTR-GCN, pyskl); "frame", relative to the centre joint of each frame (2s-AGCN,
            HCN-pytorch), which takes the movement through space away; "aligned", "first" and then
            turned so that the spine points up and the shoulders lie along the first axis (2s-AGCN,
            skelact). Where no centre was tracked, positions stay as they are.

    Raises:
        ValueError: an unknown way, or "aligned" for positions that are not in space.
    """
    if how not in get_args(Normalisation):
        raise ValueError(f"how: wanted one of {', '.join(get_args(Normalisation))}, got {how!r}")
    if how == "none":
        return positions
    seen = tracked(positions)
    frames = np.flatnonzero(seen[0, :, layout.centre])
    if not frames.size:
        return positions
    centres = positions[0, :, layout.centre]
    if how == "frame":
        # A frame without a centre is taken relative to the last one before it, or to the first.
        latest = frames[
            np.maximum(np.searchsorted(frames, np.arange(len(centres)), "right") - 1, 0)
        ]
        origin = centres[latest][None, :, None]
    else:
        origin = centres[frames[0]]
    moved = np.where(seen[..., None], positions - origin, 0)
    if how == "aligned":
        moved = moved @ _upright(moved[0, frames[0]], layout).T
    return moved.astype(np.float32)


def _upright(skeleton: Positions, layout: Layout) -> NDArray[np.float64]:
    """The rotation (3, 3) that stands a skeleton (V, 3) up and turns it to the front."""
    if skeleton.shape[-1] != 3:
        raise ValueError(f"how: 'aligned' wants 3 coordinates, got {skeleton.shape[-1]}")
    seen = np.any(skeleton != 0, axis=-1)
    lower, upper = layout.spine
    right, left = layout.shoulders
    # The centre may be an end of the spine, and lies at 0 now.
    known = seen | (np.arange(len(skeleton)) == layout.centre)
    if not known[[lower, upper, right, left]].all():
        return np.eye(3)
    up = (skeleton[upper] - skeleton[lower]).astype(np.float64)
    across = (skeleton[left] - skeleton[right]).astype(np.float64)
    if not np.linalg.norm(up) or not np.linalg.norm(np.cross(across, up)):
        return np.eye(3)
    up /= np.linalg.norm(up)
    across -= (across @ up) * up
    across /= np.linalg.norm(across)
    # Rows: where the first axis, the upward axis and the third one shall come from.
    axis, sign = layout.up
    rows = np.zeros((3, 3))
    rows[axis] = sign * up
    first = 0 if axis != 0 else 1
    rows[first] = across
    third = 3 - axis - first
    rows[third] = np.cross(rows[(third + 1) % 3], rows[(third + 2) % 3])
    return rows


def body_size(positions: Positions, layout: Layout) -> float:
    """Mean length of the first person's bones, over all bones and frames tracked.

    It is 1 where no bone was tracked, or bones are shorter than a millionth: there is no body.
    """
    child, parent = np.array(layout.bones).T
    seen = tracked(positions[0])
    both = seen[:, child] & seen[:, parent]
    lengths = np.linalg.norm(positions[0][:, child] - positions[0][:, parent], axis=-1)[both]
    return float(lengths.mean()) if lengths.size and lengths.mean() > 1e-6 else 1.0


def crop(positions: Positions, start: int, frames: int) -> Positions:
    """Some frames in a row.

    Raises:
        ValueError: the recording does not have them.
    """
    if start < 0 or frames < 1 or start + frames > positions.shape[1]:
        raise ValueError(
            f"frames: wanted some of {positions.shape[1]}, got {frames} from frame {start} on"
        )
    return positions[:, start : start + frames]


def centre_crop(positions: Positions, share: float) -> Positions:
    """The middle of a recording: a share of its frames, at least one."""
    length = positions.shape[1]
    frames = max(1, int(length * share))
    return crop(positions, (length - frames) // 2, frames)


def random_crop(
    positions: Positions, shares: tuple[float, float], least: int, random: np.random.Generator
) -> Positions:
    """A random part of a recording, a random share of its frames.

    Args:
        positions: (M, T, V, D).
        shares: least and greatest share, both within 0 and 1.
        least: as many frames at the least, where there are so many.
        random: what draws.
    """
    length = positions.shape[1]
    lowest, highest = (int(length * share) for share in shares)
    frames = min(max(int(random.integers(lowest, highest + 1)), least, 1), length)
    return crop(positions, int(random.integers(length - frames + 1)), frames)


def resize(positions: Positions, frames: int) -> Positions:
    """Another number of frames, by linear interpolation in time.

    Frames count from the middle of the first to the middle of the last one, as
    ``torch.nn.functional.interpolate(..., align_corners=False)`` does it (HCN, CTR-GCN). A joint
    tracked in one of two neighbouring frames only is taken from that one: half-way to 0 it never
    was.
    """
    length = positions.shape[1]
    if frames == length:
        return positions
    at = np.clip((np.arange(frames) + 0.5) * (length / frames) - 0.5, 0, length - 1)
    before = np.floor(at).astype(np.int64)
    after = np.minimum(before + 1, length - 1)
    weight = (at - before).astype(np.float32)[:, None, None]
    first, second = positions[:, before], positions[:, after]
    seen_first, seen_second = tracked(first)[..., None], tracked(second)[..., None]
    mixed = first + weight * (second - first)
    return np.where(seen_first & seen_second, mixed, np.where(weight < 0.5, first, second)).astype(
        np.float32
    )


def rotate(positions: Positions, layout: Layout, degrees: float) -> Positions:
    """Turned about the upward axis through the origin, as if the camera stood elsewhere.

    Raises:
        ValueError: the positions are not in space.
    """
    if positions.shape[-1] != 3:
        raise ValueError(f"positions: wanted 3 coordinates, got {positions.shape[-1]}")
    axis, _ = layout.up
    first, second = (axis + 1) % 3, (axis + 2) % 3
    angle = np.deg2rad(degrees)
    turn = np.eye(3)
    turn[first, first] = turn[second, second] = np.cos(angle)
    turn[first, second], turn[second, first] = -np.sin(angle), np.sin(angle)
    turned: Positions = (positions @ turn.T).astype(np.float32)
    return turned
