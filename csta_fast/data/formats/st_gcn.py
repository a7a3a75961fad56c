"""Arrays of ST-GCN, 2s-AGCN and HCN: ``train_data.npy`` with ``train_label.pkl``, and of ``val``.

Data are (samples, coordinates, frames, joints, persons) = (N, 3, 300, 25, 2), padded with zeros;
a label file is a pickle of a list of names and one of labels. Nothing that it asks for is run.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from csta_fast.data import npz, ntu_samples, safe_pickle
from csta_fast.data.checks import is_whole
from csta_fast.data.files import Progress, Source, track
from csta_fast.data.gathering import (
    Format,
    Gathering,
    checked_label,
    plural,
    positions,
    without,
    without_empty_frames,
    without_padding,
)
from csta_fast.data.layouts import KINECT_V2
from csta_fast.data.named_splits import classes, protocols
from csta_fast.data.recordings import Collection, Recording

KIND: Final = "st-gcn"
WANTED: Final = (
    "a folder of ST-GCN or 2s-AGCN for one split, with train_data.npy or train_data_joint.npy, "
    "train_label.pkl, and the same of val"
)
_DATA = ("data_joint.npy", "data.npy")
_LABEL = "_label.pkl"
_JOINTS = len(KINECT_V2.joints)


def read(source: Source, progress: Progress = None) -> Collection:
    """Recordings of one or two persons.

    Frames of zeros at the end are padding and go, and so does a person who is nowhere seen. Other
    frames without a person are dropped and counted in ``trimmed``. What 2s-AGCN did before stays
    done: its frames repeat to the full length, and are turned upright. The protocol is called by
    the folder (``xsub``, ``xview``, ``xset``), or else ``given``.
    """
    gathering = Gathering()
    lists: dict[str, list[str]] = {}
    for side, data in _sides(source).items():
        names, labels = _labels(source, data)
        lists[_key(source, data, side)] = names
        rows = zip(names, labels, _rows(source, data, len(names)), strict=True)
        for name, label, row in track(rows, len(names), progress):
            with gathering.skipping(name):
                gathering.add(*_recording(name, checked_label(label, source.limits), row))
    found = list(gathering.recordings.values())
    return gathering.collection(
        source.path,
        (KIND, WANTED),
        KINECT_V2,
        classes(source.path, found),
        protocols(source.path, lists, found),
    )


def _sides(source: Source) -> dict[str, str]:
    """The data files of ``train`` and ``val``, of those there are."""
    found = {}
    for side in ("train", "val"):
        for ending in _DATA:
            files = [
                name for name in source.names if PurePosixPath(name).name == f"{side}_{ending}"
            ]
            if len(files) > 1:
                raise ValueError(
                    f"path: wanted {WANTED}, got {source.path}, which holds "
                    f"{plural(len(files), 'file')} {side}_{ending}: name one of the folders in it"
                )
            if files:
                found[side] = files[0]
                break
    return found


def _key(source: Source, data: str, side: str) -> str:
    """What the list of names would be called in a pickle of pyskl."""
    folder = (source.path / data).parent.name
    return f"{folder}_{side}" if folder in ("xsub", "xview", "xset") else side


def _labels(source: Source, data: str) -> tuple[list[str], list[int]]:
    file_name = PurePosixPath(data)
    label = str(file_name.with_name(file_name.name.partition("_data")[0] + _LABEL))
    if label not in source.names:
        raise ValueError(f"path: wanted {WANTED}, got {source.path}, which has no {label}")
    with source.open(label) as file:
        held = safe_pickle.load(file, source.path / label, source.limits)
    pair = list(held) if isinstance(held, (tuple, list)) else []
    lists = [safe_pickle.listed(each) for each in pair]
    if (
        len(lists) != 2
        or not all(isinstance(each, list) for each in lists)
        or not all(isinstance(name, str) and name for name in lists[0])
        or not all(is_whole(label) and label >= 0 for label in lists[1])
        or len(lists[0]) != len(lists[1])
    ):
        raise ValueError(
            f"path: wanted a list of names and one as long of labels, got {source.path / label}"
        )
    return [name.removesuffix(".skeleton") for name in lists[0]], lists[1]


def _rows(source: Source, data: str, samples: int) -> Iterator[NDArray[Any]]:
    """As many rows as there are samples."""
    with npz.said_of(source, WANTED), source.open(data) as file:
        yield from npz.rows_of(file, data, samples, source.limits)


def _recording(name: str, label: int, row: NDArray[np.generic]) -> tuple[Recording, str]:
    if row.ndim != 4 or (row.shape[0], row.shape[2]) != (3, _JOINTS):
        raise ValueError(f"wanted (3, frames, {_JOINTS} joints, persons), got {row.shape}")
    seen = without_padding(positions(row.transpose(3, 1, 2, 0), _JOINTS))
    found, lost = without_empty_frames(seen)
    sample = ntu_samples.sample(name)
    known = (sample.subject, sample.camera, sample.setup) if sample else ()
    return Recording(name, found, label, *known), without(lost)


FORMAT: Final = Format(
    KIND,
    WANTED,
    lambda source: any(name.endswith(tuple(f"_{each}" for each in _DATA)) for name in source.names),
    read,
)
