"""A body of bones of fixed length that turn about their joints, with the joints of a Kinect v2."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from csta_fast.data.layouts import KINECT_V2

# Joint, the joint it hangs on, and where it is from there at rest, in metres: x to the body's
# right, y up, z to its back. Parents come first.
_RIGHT_SIDE = (
    ("right shoulder", "spine shoulder", (0.17, -0.04, 0.0)),
    ("right elbow", "right shoulder", (0.04, -0.27, 0.01)),
    ("right wrist", "right elbow", (0.02, -0.24, -0.02)),
    ("right hand", "right wrist", (0.0, -0.07, -0.01)),
    ("right hand tip", "right hand", (0.0, -0.08, -0.01)),
    ("right thumb", "right hand", (-0.01, -0.03, -0.05)),
    ("right hip", "spine base", (0.08, -0.03, 0.0)),
    ("right knee", "right hip", (0.02, -0.40, -0.01)),
    ("right ankle", "right knee", (0.0, -0.39, 0.03)),
    ("right foot", "right ankle", (0.02, -0.06, -0.11)),
)
_TRUNK = (
    ("spine middle", "spine base", (0.0, 0.27, 0.0)),
    ("spine shoulder", "spine middle", (0.0, 0.23, 0.0)),
    ("neck", "spine shoulder", (0.0, 0.07, 0.0)),
    ("head", "neck", (0.0, 0.16, -0.01)),
)


def _index(joint: str) -> int:
    return KINECT_V2.joints.index(joint)


def _bones() -> tuple[tuple[int, int, tuple[float, float, float]], ...]:
    left = tuple(
        (joint.replace("right", "left"), parent.replace("right", "left"), (-x, y, z))
        for joint, parent, (x, y, z) in _RIGHT_SIDE
    )
    return tuple(
        (_index(joint), _index(parent), offset)
        for joint, parent, offset in _TRUNK + _RIGHT_SIDE + left
    )


#: (joint, parent, offset in metres), parents first; not in the order of the layout.
BONES = _bones()
_RIGHT = [_index(joint) for joint, _, _ in _RIGHT_SIDE]
_LEFT = [_index(joint.replace("right", "left")) for joint, _, _ in _RIGHT_SIDE]
_FEET = [_index("right foot"), _index("left foot")]


def rotations(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Matrices (..., 3, 3) of rotation vectors (..., 3) in radians, by Rodrigues' formula."""
    angle = np.linalg.norm(vectors, axis=-1)[..., None, None]
    x, y, z = np.moveaxis(vectors, -1, 0)
    zero = np.zeros_like(x)
    cross = np.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).reshape(*x.shape, 3, 3)
    # np.sinc(a / pi) is sin(a) / a, and 1 at 0; (1 - cos a) / a^2 is half its square at a / 2.
    first, second = np.sinc(angle / np.pi), 0.5 * np.sinc(angle / (2 * np.pi)) ** 2
    result: NDArray[np.float64] = np.eye(3) + first * cross + second * (cross @ cross)
    return result


def symmetric(lengths: NDArray[np.float64]) -> NDArray[np.float64]:
    """Lengths (V,) with those of the right side on the left, too."""
    lengths = lengths.copy()
    lengths[_LEFT] = lengths[_RIGHT]
    return lengths


def stand(turns: NDArray[np.float64], lengths: NDArray[np.float64]) -> NDArray[np.float64]:
    """Positions (T, V, 3) of a body that stands at the origin, its lower foot on the floor y = 0.

    Args:
        turns: rotation vectors (T, V, 3), radians: how everything below a joint is turned.
        lengths: (V,), by which factor the bone that ends in a joint differs from the usual.
    """
    local = rotations(turns)
    positions, whole = np.zeros_like(turns), local.copy()
    for joint, parent, offset in BONES:
        whole[:, joint] = whole[:, parent] @ local[:, joint]
        step = lengths[joint] * np.asarray(offset)
        positions[:, joint] = positions[:, parent] + whole[:, parent] @ step
    positions[..., 1] -= positions[:, _FEET, 1].min(1)[:, None]
    return positions
