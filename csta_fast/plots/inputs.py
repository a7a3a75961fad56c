"""What the plots accept: arrays or tensors, checked and brought into one form."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from csta_fast.data.layouts import LAYOUTS, Layout

Array = NDArray[np.float64]
Values: TypeAlias = ArrayLike | Tensor


class Attended(NamedTuple):
    """A recording with the attention that it was given."""

    positions: Array  # (M, T, V, D)
    frames: Array  # (M, G, T), relative to uniform weights
    joints: Array  # (M, G, V), relative to uniform weights
    lengths: NDArray[np.int64]  # (M,)
    layout: Layout

    @property
    def over_frames(self) -> Array:
        """(M, T), the mean over groups."""
        return np.asarray(self.frames.mean(1))

    @property
    def over_joints(self) -> Array:
        """(M, V), the mean over groups."""
        return np.asarray(self.joints.mean(1))


def attended(
    positions: Values,
    frame_weights: Values | None,
    joint_weights: Values,
    layout: Layout | str,
    lengths: Values | None,
    group: int | None,
) -> Attended:
    """The arguments that most pictures have in common; no frame weights are uniform ones."""
    layout = known_layout(layout)
    bodies = people(positions, layout)
    persons, frames, joints, _ = bodies.shape
    real = real_lengths(lengths, persons, frames)
    over_joints = relative("joint_weights", joint_weights, "V", size=joints, persons=persons,
                           group=group)  # fmt: skip
    if frame_weights is None:
        over_frames = (np.arange(frames) < real[:, None]).astype(np.float64)[:, None]
    else:
        over_frames = relative("frame_weights", frame_weights, "T", size=frames, persons=persons,
                               group=group, lengths=lengths)  # fmt: skip
    return Attended(bodies, over_frames, over_joints, real, layout)


def array(name: str, given: Values, *, signed: bool = True) -> Array:
    """A tensor, array or nested list of numbers, as an array of float64; all must be finite."""
    values: Any = given.detach().cpu().double().numpy() if isinstance(given, Tensor) else given
    try:
        result = np.asarray(values, np.float64)
    except (TypeError, ValueError):
        raise TypeError(f"{name}: wanted an array of numbers, got {type(given).__name__}") from None
    wrong = ~np.isfinite(result)
    wanted = "finite numbers"
    if not signed:
        wrong |= result < 0
        wanted += " of at least 0"
    if wrong.any():
        where = tuple(int(each) for each in np.argwhere(wrong)[0])
        raise ValueError(f"{name}: wanted {wanted}, got {result[where]} at {where}")
    return result


def known_layout(given: Layout | str) -> Layout:
    """A layout, or the one of that name."""
    if isinstance(given, Layout):
        return given
    if given not in LAYOUTS:
        known = ", ".join(LAYOUTS)
        raise ValueError(f"layout: wanted a Layout or one of {known}, got {given!r}")
    return LAYOUTS[given]


def people(given: Values, layout: Layout) -> Array:
    """Positions (M, T, V, D) of (T, V, D) or (M, T, V, D)."""
    result = array("positions", given)
    joints = len(layout.joints)
    shape = result.shape
    if result.ndim not in (3, 4) or shape[-2] != joints or shape[-1] not in (2, 3) or 0 in shape:
        raise ValueError(
            f"positions: wanted (T, V, D) or (M, T, V, D) with the V = {joints} joints of "
            f"{layout.name} and D = 2 or 3, got {shape}"
        )
    if shape[-1] <= layout.up[0]:
        raise ValueError(
            f"positions: wanted D = 3, because axis {layout.up[0]} of {layout.name} points up, "
            f"got {shape}"
        )
    return result if result.ndim == 4 else result[None]


def relative(
    name: str,
    given: Values,
    axis: str,
    *,
    size: int | None = None,
    persons: int | None = None,
    group: int | None = None,
    lengths: Values | None = None,
) -> Array:
    """Weights relative to uniform ones, (M, G, L), of (L,), (G, L) or (M, G, L).

    Each row has mean 1 over what is real: with softmax that is the weight times L. A row that is
    zero throughout, as that of a person who is not there, stays zero.

    Args:
        name, axis: what the argument and its axis are called in messages.
        size: the L that is wanted; None takes any but 0.
        persons: the M that is wanted; None takes any but 0.
        group: the only group that is kept, or None for all.
        lengths: an integer, or (M,) of them: how many positions of a row are real.
    """
    weights = array(name, given, signed=False)
    shape = weights.shape
    while 0 < weights.ndim < 3:
        weights = weights[None]
    if (
        weights.ndim != 3
        or 0 in shape
        or (size is not None and shape[-1] != size)
        or (persons is not None and len(weights) != persons)
    ):
        wanted = f"({axis},), (G, {axis}) or (M, G, {axis})"
        if persons is not None and persons > 1:
            wanted = f"(M, G, {axis}) with M = {persons}"
        if size is not None:
            wanted += f"{' and' if 'with' in wanted else ' with'} {axis} = {size}"
        raise ValueError(f"{name}: wanted {wanted}, got {shape}")
    if group is not None:
        if not 0 <= group < weights.shape[1]:
            raise ValueError(f"group: wanted 0 to {weights.shape[1] - 1}, got {group}")
        weights = weights[:, group : group + 1]
    if not weights.any():
        raise ValueError(f"{name}: wanted some weight above 0, got only zeros")
    real = real_lengths(lengths, len(weights), weights.shape[-1])
    beyond = np.arange(weights.shape[-1]) >= real[:, None]
    if weights.max(1)[beyond].any():
        raise ValueError(f"{name}: wanted 0 beyond lengths = {real.tolist()}, got weights there")
    sums = weights.sum(-1, keepdims=True)
    result: Array = weights * real[:, None, None] / np.where(sums > 0, sums, 1)
    return result


def real_lengths(lengths: Values | None, persons: int, size: int) -> NDArray[np.int64]:
    """How many frames of each person are real, (M,)."""
    if lengths is None:
        return np.full(persons, size)
    given = array("lengths", lengths)
    if given.ndim > 1 or (given.ndim == 1 and len(given) != persons):
        raise ValueError(
            f"lengths: wanted an integer or (M,) = ({persons},) of them, got {given.shape}"
        )
    if (given != np.round(given)).any() or (given < 1).any() or (given > size).any():
        raise ValueError(f"lengths: wanted integers from 1 to T = {size}, got {given.tolist()}")
    return np.broadcast_to(given.astype(np.int64), (persons,))


def chosen_frames(frame: int | Sequence[int], size: int) -> list[int]:
    """One or several numbers of frames; negative ones count from the end."""
    frames = [int(each) for each in np.atleast_1d(np.asarray(frame, np.int64))]
    if not frames or any(not -size <= each < size for each in frames):
        raise ValueError(f"frame: wanted {-size} to {size - 1}, one or several, got {frame}")
    return [each % size for each in frames]


def positive_rate(rate: float | None) -> None:
    """Refuse a rate that is no number of frames a second."""
    if rate is not None and not 0 < rate < np.inf:
        raise ValueError(f"rate: wanted frames a second, above 0, got {rate}")
