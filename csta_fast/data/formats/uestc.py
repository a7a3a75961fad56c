"""UESTC varying-view RGB-D: ``aA_dD_pPPP_cC_skeleton.txt``, or the same as ``.mat``.

Ji et al., "A large-scale varying-view RGB-D action dataset for arbitrary-view human action
recognition", arXiv 1904.10681. In a text a frame is a line ``#``, and for every joint a line
"x y z 0" in metres, one of its pixel in colour and one of its pixel in depth. In MATLAB's files
``v`` is (frames, 75), or ``skel`` is (frames, 25, 3).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final

import numpy as np
from numpy.typing import NDArray

from csta_fast.data import matlab
from csta_fast.data.checks import said
from csta_fast.data.files import Progress, Source
from csta_fast.data.gathering import (
    Format,
    Gathering,
    content,
    positions,
    without,
    without_empty_frames,
)
from csta_fast.data.layouts import KINECT_V2
from csta_fast.data.protocols import Divided
from csta_fast.data.recordings import Collection, Protocol, Recording

KIND: Final = "uestc"
WANTED: Final = (
    "a folder or archive of UESTC with files aA_dD_pPPP_cC_skeleton.txt or .mat, A from 0 to 39"
)
CLASSES: Final = (
    "punching and knee lifting", "marking time and knee lifting", "jumping jack", "squatting",
    "forward lunging", "left lunging", "left stretching", "raising hand and jumping",
    "left kicking", "rotation clapping", "front raising", "pulling chest expanders", "punching",
    "wrist circling", "single dumbbell raising", "shoulder raising", "elbow circling",
    "dumbbell one-arm shoulder pressing", "arm circling", "dumbbell shrugging", "pinching back",
    "head anticlockwise circling", "shoulder abduction", "deltoid muscle stretching",
    "straight forward flexion", "spinal stretching", "dumbbell side bend",
    "standing opposite elbow-to-knee crunch", "standing rotation", "overhead stretching",
    "upper back stretching", "knee to chest", "knee circling", "alternate knee lifting",
    "bent over twist", "rope skipping", "standing toe touches", "standing gastrocnemius calf",
    "single-leg lateral hopping", "high knees running",
)  # fmt: skip
_SUFFIXES = ("skeleton.txt", "skeleton.mat")
_NAME = re.compile(r"(a(\d{1,2})_d(\d)_p(\d{1,3})_c(\d))_skeleton\.(txt|mat)")
_JOINTS = len(KINECT_V2.joints)
_FRAME_LINES = 1 + 3 * _JOINTS
_FRONT, _ROUND = 0, 8
_FIXED = frozenset(range(8))

_SUBJECTS = frozenset({
    1, 2, 6, 12, 13, 16, 21, 24, 28, 29, 30, 31, 33, 35, 39, 41, 42, 45, 47, 50, 52, 54, 55, 57,
    59, 61, 63, 64, 67, 69, 70, 71, 73, 77, 81, 84, 86, 87, 88, 90, 91, 93, 96, 99, 102, 103, 104,
    107, 108, 112, 113,
})  # fmt: skip


@dataclass(frozen=True)
class _Views:
    """Train and test by view. The front recordings beside the round view take no part."""

    train: frozenset[int]
    test: frozenset[int]

    def __call__(self, recording: Recording) -> bool | None:
        if recording.view == _FRONT and recording.setup == _ROUND:
            return None
        if recording.view in self.train:
            return True
        return False if recording.view in self.test else None


_ODD = frozenset({1, 3, 5, 7})
PROTOCOLS: Final[dict[str, Protocol]] = {
    "cross-subject": Divided("subject", _SUBJECTS),
    **{
        f"cross-view-1-v{view}": _Views(frozenset({view}), _FIXED - {view})
        for view in sorted(_FIXED)
    },
    "cross-view-2-odd": _Views(_ODD, _FIXED - _ODD),
    "cross-view-2-even": _Views(_FIXED - _ODD, _ODD),
    "arbitrary-view": _Views(_FIXED, frozenset({_ROUND})),
}


def read(source: Source, progress: Progress = None) -> Collection:
    """Recordings of one person.

    ``camera`` is C, ``setup`` is D, and ``view`` is 0 from the front (C = 1), else D: 1 to 7 from
    fixed sides, 8 from the camera that went round. Frames without any joint are dropped and counted
    in ``trimmed``. A text that was cut within a frame is skipped; where it was cut between two
    frames, nothing in it tells. Front recordings of D = 5 to 7 are, in some actions, the authors'
    own copies of those of D = 3 to 1. They are kept: the published counts include them, and under
    every protocol a copy is on the side of its original.

    ``cross-subject`` trains on 51 subjects; ``cross-view-1-v0`` to ``-v7`` on one fixed view, and
    test on the seven others; ``cross-view-2-odd`` on views 1, 3, 5, 7, and tests on 0, 2, 4, 6
    (``-even`` the other way round); ``arbitrary-view`` on all fixed views, and tests on the round
    one. These last three kinds follow descriptions by others, for the authors publish no lists.
    """
    gathering = Gathering()
    names = [name for name in source.names if name.endswith(_SUFFIXES)]
    for name, file in source.contents(names, progress):
        with gathering.skipping(name):
            most = source.limits.recording_bytes
            gathering.add(*_recording(PurePosixPath(name).name, content(file), most))
    return gathering.collection(source.path, (KIND, WANTED), KINECT_V2, CLASSES, PROTOCOLS)


def _recording(name: str, file: bytes, most: int) -> tuple[Recording, str]:
    match = _NAME.fullmatch(name)
    action, setup, subject, camera = map(int, match.groups()[1:5]) if match else (0, 0, 0, 0)
    if (
        match is None
        or action >= len(CLASSES)
        or not (1 <= setup <= _ROUND and 1 <= subject <= 118 and 1 <= camera <= 2)
    ):
        raise ValueError(
            "wanted a name aA_dD_pPPP_cC_skeleton.txt or .mat, A to 39, D to 8, PPP to 118, C to 2"
        )
    frames = _text(file) if match[6] == "txt" else _matlab(file, most)
    found, lost = without_empty_frames(positions(frames[None], _JOINTS))
    recording = Recording(
        # Some files write subject 032 as 32.
        f"a{action:02}_d{setup}_p{subject:03}_c{camera}",
        found,
        action,
        subject,
        camera,
        setup,
        _FRONT if camera == 1 else setup,
    )
    return recording, without(lost, "any joint")


def _text(file: bytes) -> NDArray[np.float64]:
    lines = file.rstrip().splitlines()
    marks = [number for number, line in enumerate(lines) if line.startswith(b"#")]
    if len(lines) % _FRAME_LINES or marks != list(range(0, len(lines), _FRAME_LINES)):
        raise ValueError(
            f"wanted frames of a line # and {_FRAME_LINES - 1} more, got {len(lines)} lines with "
            f"{len(marks)} lines #"
        )
    # A number that was cut off would still be a number, so what comes after it is compared.
    first, last = lines[_FRAME_LINES - 1].split(), lines[-1].split()
    if (len(last), last[-1:]) != (len(first), first[-1:]):
        got = said(lines[-1].decode(errors="replace"))
        raise ValueError(
            f"the file is cut off: wanted a last line as in the first frame, got {got}"
        )
    joints = [line for mark in marks for line in lines[mark + 1 : mark + _FRAME_LINES : 3]]
    rows = np.loadtxt(joints, comments=None, ndmin=2)
    if rows.shape[1] != 4 or rows[:, 3].any():
        raise ValueError("wanted 'x y z 0' in the first of every three lines of a joint")
    return rows[:, :3].reshape(-1, _JOINTS, 3)


def _matlab(file: bytes, most: int) -> NDArray[np.float64]:
    held = matlab.arrays(file, most)
    found = held.get("v", held.get("skel"))
    if found is None:
        raise ValueError("wanted a variable v (frames, 75) or skel (frames, 25, 3), got none")
    if found.shape[1:] not in ((3 * _JOINTS,), (_JOINTS, 3)):
        raise ValueError(f"wanted v (frames, 75) or skel (frames, 25, 3), got {found.shape}")
    frames: NDArray[np.float64] = found.reshape(-1, _JOINTS, 3)
    return frames


FORMAT: Final = Format(
    KIND,
    WANTED,
    lambda source: any(_NAME.fullmatch(PurePosixPath(name).name) for name in source.names),
    read,
)
