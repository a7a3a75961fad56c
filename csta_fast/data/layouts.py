"""What the joints of a skeleton are called, which bones join them, and which of them anchor it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Layout:
    """The joints of one kind of skeleton, in the order in which recordings hold them.

    Attributes:
        name: as on the command line.
        joints: a name for every joint.
        bones: (child, parent) pairs of joints; together they join all joints into one tree.
        centre: the joint that positions are taken relative to.
        spine: (lower, upper) joints of the line that points up in a standing body.
        shoulders: (right, left).
        up: the axis of a position that points up, and its sign.
    """

    name: str
    joints: tuple[str, ...]
    bones: tuple[tuple[int, int], ...]
    centre: int
    spine: tuple[int, int]
    shoulders: tuple[int, int]
    up: tuple[int, int] = (1, 1)

    @property
    def upwards(self) -> NDArray[np.float32]:
        """The unit vector (3,) that points up."""
        axis, sign = self.up
        vector = np.zeros(3, np.float32)
        vector[axis] = sign
        return vector


def _layout(
    name: str,
    joints: str,
    bones: str,
    *,
    centre: str,
    spine: tuple[str, str],
    shoulders: tuple[str, str],
    up: tuple[int, int] = (1, 1),
) -> Layout:
    """A layout from names; ``bones`` counts joints from 1, child-parent, as the field does."""
    names = tuple(each.strip() for each in joints.split(","))
    pairs = tuple(tuple(int(end) - 1 for end in bone.split("-")) for bone in bones.split())
    return Layout(
        name,
        names,
        tuple((child, parent) for child, parent in pairs),
        names.index(centre),
        (names.index(spine[0]), names.index(spine[1])),
        (names.index(shoulders[0]), names.index(shoulders[1])),
        up,
    )


KINECT_V2 = _layout(
    "kinect-v2",
    "spine base, spine middle, neck, head, left shoulder, left elbow, left wrist, left hand, "
    "right shoulder, right elbow, right wrist, right hand, left hip, left knee, left ankle, "
    "left foot, right hip, right knee, right ankle, right foot, spine shoulder, left hand tip, "
    "left thumb, right hand tip, right thumb",
    "1-2 2-21 3-21 4-3 5-21 6-5 7-6 8-7 9-21 10-9 11-10 12-11 13-1 14-13 15-14 16-15 17-1 18-17 "
    "19-18 20-19 22-23 23-8 24-25 25-12",
    centre="spine middle",
    spine=("spine base", "spine middle"),
    shoulders=("right shoulder", "left shoulder"),
)

KINECT_V1 = _layout(
    "kinect-v1",
    "hip centre, spine, shoulder centre, head, left shoulder, left elbow, left wrist, left hand, "
    "right shoulder, right elbow, right wrist, right hand, left hip, left knee, left ankle, "
    "left foot, right hip, right knee, right ankle, right foot",
    "1-2 2-3 4-3 5-3 6-5 7-6 8-7 9-3 10-9 11-10 12-11 13-1 14-13 15-14 16-15 17-1 18-17 19-18 "
    "20-19",
    centre="spine",
    spine=("hip centre", "spine"),
    shoulders=("right shoulder", "left shoulder"),
)

MSR_ACTION3D = _layout(
    "msr-action3d",
    "left shoulder, right shoulder, neck, spine, left hip, right hip, hip centre, left elbow, "
    "right elbow, left wrist, right wrist, left hand, right hand, left knee, right knee, "
    "left ankle, right ankle, left foot, right foot, head",
    "7-4 4-3 20-3 1-3 2-3 8-1 9-2 10-8 11-9 12-10 13-11 5-7 6-7 14-5 15-6 16-14 17-15 18-16 19-17",
    centre="spine",
    spine=("hip centre", "spine"),
    shoulders=("right shoulder", "left shoulder"),
)

COCO = _layout(
    "coco",
    "nose, left eye, right eye, left ear, right ear, left shoulder, right shoulder, left elbow, "
    "right elbow, left wrist, right wrist, left hip, right hip, left knee, right knee, left ankle, "
    "right ankle",
    "2-1 3-1 4-2 5-3 6-1 7-1 8-6 9-7 10-8 11-9 12-6 13-7 14-12 15-13 16-14 17-15",
    centre="nose",
    spine=("left hip", "left shoulder"),
    shoulders=("right shoulder", "left shoulder"),
    up=(1, -1),
)

LAYOUTS = {layout.name: layout for layout in (KINECT_V2, KINECT_V1, MSR_ACTION3D, COCO)}
