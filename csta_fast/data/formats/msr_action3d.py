"""MSR-Action3D: ``aAA_sSS_eEE_skeleton3D.txt``, 20 lines "x y z confidence" a frame, in metres.

Li, Zhang and Liu, "Action recognition based on a bag of 3D points", CVPR workshops 2010. Of the
567 files, 557 are on the list ``files_used_in_cvpr12_paper.txt`` that the literature keeps to.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Final

from csta_fast.data.files import Progress, Source
from csta_fast.data.gathering import (
    Format,
    Gathering,
    content,
    positions,
    table,
    text_file,
    without,
    without_empty_frames,
)
from csta_fast.data.layouts import MSR_ACTION3D
from csta_fast.data.protocols import Divided
from csta_fast.data.recordings import Collection, Protocol, Recording

KIND: Final = "msr-action3d"
WANTED: Final = (
    "a folder or archive of MSR-Action3D with files aAA_sSS_eEE_skeleton3D.txt, AA from 01 to 20"
)
CLASSES: Final = (
    "high arm wave", "horizontal arm wave", "hammer", "hand catch", "forward punch", "high throw",
    "draw x", "draw tick", "draw circle", "hand clap", "two hand wave", "side boxing", "bend",
    "forward kick", "side kick", "jogging", "tennis swing", "tennis serve", "golf swing",
    "pick up and throw",
)  # fmt: skip
_NAME = re.compile(r"a(\d\d)_s(\d\d)_e(\d\d)_skeleton3D\.txt")
_FILE = "skeleton3D.txt"
_LIST = "files_used_in_cvpr12_paper.txt"
_JOINTS = len(MSR_ACTION3D.joints)

_ODD = frozenset({1, 3, 5, 7, 9})
# The three action sets of the 2010 paper, as numbered there, from 1.
_SETS = {
    "as1": (2, 3, 5, 6, 10, 13, 18, 20),
    "as2": (1, 4, 7, 8, 9, 11, 12, 14),
    "as3": (6, 14, 15, 16, 17, 18, 19, 20),
}
PROTOCOLS: Final[dict[str, Protocol]] = {
    "cross-subject": Divided("subject", _ODD),
    **{
        name: Divided("subject", _ODD, labels=frozenset(action - 1 for action in actions))
        for name, actions in _SETS.items()
    },
}


def read(source: Source, progress: Progress = None) -> Collection:
    """Recordings of one person: those on the list, or all where there is no list.

    Frames in which every joint lies at 0 were not tracked; they are dropped, and counted in
    ``trimmed``. Of a file that was cut within a frame or a number this is noticed, as the last line
    has no end then; where it was cut between two frames, nothing in it tells. ``cross-subject``
    trains on the odd subjects, with all 20 classes; ``as1``, ``as2`` and ``as3`` do so with the 8
    classes of an action set, whose labels stay those of 20.
    """
    gathering = Gathering()
    names = [name for name in source.names if name.endswith(_FILE)]
    used = _used(source)
    if used is not None:
        missing = used - {_stem(name) for name in names}
        gathering.skipped.update(dict.fromkeys(missing, f"it is on {_LIST}, but not there"))
    for name, file in source.contents(names, progress):
        with gathering.skipping(name):
            if used is not None and _stem(name) not in used:
                raise ValueError(f"it is not on {_LIST}")
            gathering.add(*_recording(name, content(file)))
    return gathering.collection(source.path, (KIND, WANTED), MSR_ACTION3D, CLASSES, PROTOCOLS)


def _used(source: Source) -> set[str] | None:
    lists = [name for name in source.names if PurePosixPath(name).name == _LIST]
    for name, file in source.contents(lists[:1], progress=False):
        return set(text_file(name, file).split())
    return None


def _stem(name: str) -> str:
    return PurePosixPath(name).name.removesuffix("_" + _FILE)


def _recording(name: str, text: bytes) -> tuple[Recording, str]:
    match = _NAME.fullmatch(PurePosixPath(name).name)
    action, subject = (int(match[1]), int(match[2])) if match else (0, 0)
    if not (1 <= action <= len(CLASSES) and 1 <= subject <= 10):
        raise ValueError("wanted a name aAA_sSS_eEE_skeleton3D.txt, AA to 20 and SS to 10")
    rows = table(text, 4)
    if len(rows) % _JOINTS:
        raise ValueError(f"wanted {_JOINTS} lines a frame, got {len(rows)} lines")
    found = positions(rows[:, :3].reshape(1, -1, _JOINTS, 3), _JOINTS)
    frames, lost = without_empty_frames(found)
    recording = Recording(_stem(name), frames, action - 1, subject)
    return recording, without(lost, "any joint")


FORMAT: Final = Format(
    KIND, WANTED, lambda source: any(name.endswith(_FILE) for name in source.names), read
)
