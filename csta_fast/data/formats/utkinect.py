"""UTKinect-Action3D: 20 recordings ``joints_sSS_eEE.txt``, cut by the intervals of a label file.

Xia, Chen and Aggarwal, "View invariant human action recognition using histograms of 3D joints",
CVPR workshops 2012. A line holds a frame's number and 20 positions, in metres.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from csta_fast.data.checks import said
from csta_fast.data.files import Progress, Source
from csta_fast.data.gathering import (
    Format,
    Gathering,
    content,
    plural,
    positions,
    table,
    text_file,
    without,
    without_empty_frames,
)
from csta_fast.data.layouts import KINECT_V1
from csta_fast.data.protocols import Divided, Prefixed
from csta_fast.data.recordings import Collection, Protocol, Recording

KIND: Final = "utkinect"
# As the label file calls them.
_ACTIONS = (
    "walk", "sitDown", "standUp", "pickUp", "carry", "throw", "push", "pull", "waveHands",
    "clapHands",
)  # fmt: skip
CLASSES: Final = (
    "walk", "sit down", "stand up", "pick up", "carry", "throw", "push", "pull", "wave hands",
    "clap hands",
)  # fmt: skip
# The modified list repairs seven intervals of the first; both may lie in one folder.
_LABELS = ("actionLabel_modified.txt", "actionLabel.txt")
WANTED: Final = f"a folder or archive of UTKinect with files joints_sSS_eEE.txt and {_LABELS[1]}"
_NAME = re.compile(r"joints_(s(\d\d)_e\d\d)\.txt")
_JOINTS = len(KINECT_V1.joints)

_SEQUENCES = [f"s{subject:02}_e{take:02}" for subject in range(1, 11) for take in (1, 2)]
PROTOCOLS: Final[dict[str, Protocol]] = {
    "cross-subject": Divided("subject", frozenset(range(1, 6))),
    **{
        f"leave-one-sequence-out-{fold:02}": Prefixed(sequence + "_")
        for fold, sequence in enumerate(_SEQUENCES, 1)
    },
}


class _Interval(NamedTuple):
    action: str
    first: float  # frame number; NaN where the action was not performed
    last: float  # included


def read(source: Source, progress: Progress = None) -> Collection:
    """Recordings of one person, one for each interval, called ``sSS_eEE_action``.

    Intervals are those of ``actionLabel_modified.txt``, or of ``actionLabel.txt`` where there is no
    other. Of frames with the same number the first is kept, the others are counted in ``trimmed``,
    as are frames without any joint. An interval that goes on beyond the last frame of its file is
    skipped: the file was cut. ``cross-subject`` trains on subjects 1 to 5;
    ``leave-one-sequence-out-01`` to ``-20`` test on one sequence each, s01_e01, s01_e02, s02_e01,
    ...
    """
    gathering = Gathering()
    intervals = _intervals(source)
    names = [name for name in source.names if _NAME.fullmatch(PurePosixPath(name).name)]
    for name, file in source.contents(names, progress):
        with gathering.skipping(name):
            match = _NAME.fullmatch(PurePosixPath(name).name)
            assert match is not None
            sequence = match[1]
            if sequence not in intervals:
                raise ValueError(f"{sequence} is not in the label file")
            rows = table(content(file), 1 + 3 * _JOINTS)
            for interval in intervals.pop(sequence):
                with gathering.skipping(f"{sequence}_{interval.action}"):
                    gathering.add(*_cut(rows, interval, sequence, int(match[2])))
    for sequence in intervals:
        gathering.skipped.setdefault(sequence, f"joints_{sequence}.txt is missing or was skipped")
    return gathering.collection(source.path, (KIND, WANTED), KINECT_V1, CLASSES, PROTOCOLS)


def _intervals(source: Source) -> dict[str, list[_Interval]]:
    """What the label file says of each sequence."""
    base = {PurePosixPath(name).name: name for name in source.names}
    chosen = [base[name] for name in _LABELS if name in base][:1]
    for name, file in source.contents(chosen, progress=False):
        intervals: dict[str, list[_Interval]] = {}
        for number, line in enumerate(text_file(name, file).splitlines(), 1):
            try:
                _label_line(line, intervals)
            except (ValueError, LookupError):
                raise ValueError(
                    f"path: wanted 'sSS_eEE' or 'action: first last' in {name} of {source.path}, "
                    f"each but once, got {said(line)} in line {number}"
                ) from None
        return intervals
    raise ValueError(f"path: wanted {WANTED}, got {source.path}, which has no {_LABELS[1]}")


def _label_line(line: str, intervals: dict[str, list[_Interval]]) -> None:
    action, colon, ends = line.partition(":")
    if colon:
        first, last = map(float, ends.split())
        known = intervals[list(intervals)[-1]]
        if action.strip() in [interval.action for interval in known]:
            raise ValueError("it is there already")
        known.append(_Interval(_ACTIONS[_ACTIONS.index(action.strip())], first, last))
    elif line.strip():
        sequence = _SEQUENCES[_SEQUENCES.index(line.strip())]
        if sequence in intervals:
            raise ValueError("it is there already")
        intervals[sequence] = []


def _cut(
    rows: NDArray[np.float64], interval: _Interval, sequence: str, subject: int
) -> tuple[Recording, str]:
    if not interval.first <= interval.last:
        raise ValueError(f"its interval is {interval.first:g} to {interval.last:g}")
    numbers = rows[:, 0]
    if interval.last > numbers.max():
        raise ValueError(
            f"its interval is {interval.first:g} to {interval.last:g}, and its file ends at "
            f"{numbers.max():g}"
        )
    inside = rows[(interval.first <= numbers) & (numbers <= interval.last)]
    kept = inside[np.sort(np.unique(inside[:, 0], return_index=True)[1])]
    if not len(kept):
        raise ValueError(f"no frame lies within {interval.first:g} to {interval.last:g}")
    frames, lost = without_empty_frames(positions(kept[:, 1:].reshape(1, -1, _JOINTS, 3), _JOINTS))
    recording = Recording(
        f"{sequence}_{interval.action}", frames, _ACTIONS.index(interval.action), subject
    )
    repeated = len(inside) - len(kept)
    notes = [f"{plural(repeated, 'frame')} with a repeated number"] if repeated else []
    return recording, ", ".join(notes + [without(lost, "any joint")] * bool(lost))


FORMAT: Final = Format(
    KIND,
    WANTED,
    lambda source: any(_NAME.fullmatch(PurePosixPath(name).name) for name in source.names),
    read,
)
