"""Northwestern-UCLA: ``aAA_sSS_eEE_vVV.json``, in which ``skeletons`` are (frames, 20, 3).

Wang et al., "Cross-view action modeling, learning and recognition", CVPR 2014, in the files that
CTR-GCN and its descendants train on.
"""

from __future__ import annotations

import json
import re
from pathlib import PurePosixPath
from typing import Any, Final

import numpy as np

from csta_fast.data.files import Progress, Source
from csta_fast.data.gathering import (
    Format,
    Gathering,
    content,
    positions,
    without,
    without_empty_frames,
)
from csta_fast.data.layouts import KINECT_V1
from csta_fast.data.protocols import Divided
from csta_fast.data.recordings import Collection, Protocol, Recording

KIND: Final = "nw-ucla"
WANTED: Final = "a folder or archive of Northwestern-UCLA with files aAA_sSS_eEE_vVV.json"
# By the number in a name; 7 and 10 are not in use.
_ACTIONS = {
    1: "pick up with one hand",
    2: "pick up with two hands",
    3: "drop trash",
    4: "walk around",
    5: "sit down",
    6: "stand up",
    8: "put on",
    9: "take off",
    11: "throw",
    12: "carry",
}
CLASSES: Final = tuple(_ACTIONS.values())
PROTOCOLS: Final[dict[str, Protocol]] = {
    "cross-view": Divided("view", frozenset({1, 2}), frozenset({3}))
}
_SUFFIX = ".json"
_NAME = re.compile(r"a(\d\d)_s(\d\d)_e\d\d_v(\d\d)")


def read(source: Source, progress: Progress = None) -> Collection:
    """Recordings of one person; frames without any joint are dropped and counted in ``trimmed``.

    ``cross-view`` trains on views 1 and 2, and tests on view 3.
    """
    gathering = Gathering()
    names = [name for name in source.names if name.endswith(_SUFFIX)]
    for name, file in source.contents(names, progress):
        with gathering.skipping(name):
            gathering.add(*_recording(PurePosixPath(name).stem, content(file)))
    return gathering.collection(source.path, (KIND, WANTED), KINECT_V1, CLASSES, PROTOCOLS)


def _recording(name: str, text: bytes) -> tuple[Recording, str]:
    match = _NAME.fullmatch(name)
    action, subject, view = map(int, match.groups()) if match else (0, 0, 0)
    if action not in _ACTIONS or not 1 <= subject <= 10 or not 1 <= view <= 3:
        raise ValueError(
            "wanted a name aAA_sSS_eEE_vVV.json, AA one of 01 to 06, 08, 09, 11 and 12, SS to 10 "
            "and VV to 3"
        )
    label = list(_ACTIONS).index(action)
    found, lost = without_empty_frames(positions(_skeletons(text)[None], 20))
    return Recording(name, found, label, subject, view=view), without(lost, "any joint")


def _skeletons(text: bytes) -> np.ndarray[Any, np.dtype[np.float64]]:
    try:
        held = json.loads(text)
        skeletons = np.asarray(held["skeletons"], np.float64)
    except (KeyError, TypeError, RecursionError, OverflowError) as error:
        raise ValueError(f"wanted an object with numbers as skeletons ({error})") from None
    if skeletons.shape[1:] != (len(KINECT_V1.joints), 3):
        raise ValueError(f"wanted skeletons (frames, 20, 3), got {skeletons.shape}")
    return skeletons


FORMAT: Final = Format(
    KIND,
    WANTED,
    lambda source: any(
        name.endswith(_SUFFIX) and _NAME.fullmatch(PurePosixPath(name).stem)
        for name in source.names
    ),
    read,
)
