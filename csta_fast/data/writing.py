"""Our own file, written: a collection that was read once, in a form that is read at once.

An .npz without any pickle. ``positions`` holds those of all recordings one after another, flat;
``shapes`` (recordings, 4) tells where each ends; ``numbers`` (recordings, 5) are label, subject,
camera, setup and view; ``sides`` (protocols, recordings) tell what each protocol makes of each
recording; ``text`` is JSON in UTF-8 with all that is text.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from csta_fast.data.layouts import LAYOUTS
from csta_fast.data.recording import Recording

if TYPE_CHECKING:
    from csta_fast.data.recordings import Collection

VERSION: Final = 1
#: The number that stands for none.
UNKNOWN: Final = np.iinfo(np.int64).min
LEFT_OUT, TEST, TRAIN = -1, 0, 1
_SIDES: Final = {None: LEFT_OUT, False: TEST, True: TRAIN}


def save(collection: Collection, path: str | os.PathLike[str]) -> None:
    """What ``Collection.save`` does. A file of that name is replaced once the new one is whole."""
    path = check_target(path)
    if LAYOUTS.get(collection.layout.name) != collection.layout:
        raise ValueError(
            f"layout: wanted one of {', '.join(LAYOUTS)}, got {collection.layout.name!r}"
        )
    recordings = collection.recordings
    text = {
        "kind": collection.name,
        "layout": collection.layout.name,
        "classes": collection.classes,
        "names": [recording.name for recording in recordings],
        "protocols": list(collection.protocols),
        "skipped": dict(collection.skipped),
        "trimmed": dict(collection.trimmed),
    }
    flat = [recording.positions.reshape(-1) for recording in recordings]
    sides = [[_SIDES[side] for side in collection.sides(name)] for name in collection.protocols]
    unfinished = path.with_name(path.name + ".unfinished")
    with unfinished.open("wb") as file:
        np.savez(
            file,
            csta_fast=np.array(VERSION),
            text=np.frombuffer(json.dumps(text).encode(), np.uint8),
            positions=np.concatenate(flat) if flat else np.empty(0, np.float32),
            shapes=np.array([each.positions.shape for each in recordings], np.int64).reshape(-1, 4),
            numbers=np.array([_numbers(each) for each in recordings], np.int64).reshape(-1, 5),
            sides=np.array(sides, np.int8).reshape(len(sides), len(recordings)),
        )
    os.replace(unfinished, path)


def check_target(path: str | os.PathLike[str]) -> Path:
    """Whether a collection can be saved there, as far as that can be known without one."""
    path = Path(path)
    if path.suffix != ".npz":
        raise ValueError(f"path: wanted a name that ends in .npz, got {path}")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"path: wanted a file in a folder that exists, got {path}")
    return path


def _numbers(recording: Recording) -> list[int]:
    known = recording.subject, recording.camera, recording.setup, recording.view
    return [recording.label, *(UNKNOWN if number is None else number for number in known)]
