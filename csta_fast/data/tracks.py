"""From the bodies that a sensor tracked to at most two persons."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

PERSONS = 2


def energy(track: NDArray[np.float64]) -> float:
    """How much a body (frames, joints, 3) moves and extends: its spreads along x, y and z, added.

    What 2s-AGCN (Shi et al., CVPR 2019) chooses bodies by, over the frames where each is seen.
    """
    return float(track.std((0, 1)).sum())


def persons(
    bodies: dict[int, tuple[list[int], NDArray[np.float64]]], frames: int
) -> tuple[NDArray[np.float64], int]:
    """At most two persons out of bodies that come and go, the one of most energy first.

    A sensor that loses somebody gives a new number to the body that it finds again. So bodies are
    taken by falling energy, and one that is seen in no frame of a person goes on with that person;
    one that overlaps both is left out.

    Args:
        bodies: for each number the frames where it is seen, and (frames seen, joints, 3).
        frames: of the recording.

    Returns:
        (persons, frames, joints, 3), 0 where nobody is seen, and how many bodies were left out.
    """
    order = sorted(bodies, key=lambda body: (-energy(bodies[body][1]), bodies[body][0][0]))
    joints = bodies[order[0]][1].shape[1]
    found = np.zeros((PERSONS, frames, joints, 3))
    taken = np.zeros((PERSONS, frames), np.bool_)
    left_out = 0
    for body in order:
        seen, track = bodies[body]
        free = np.flatnonzero(~taken[:, seen].any(1))
        if not len(free):
            left_out += 1
            continue
        found[free[0], seen] = track
        taken[free[0], seen] = True
    return found[taken.any(1)], left_out
