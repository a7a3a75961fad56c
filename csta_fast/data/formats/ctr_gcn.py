"""Archives that CTR-GCN and its descendants train on: ``NTU60_CS.npz`` and the like.

``x_train`` and ``x_test`` hold (samples, frames, persons · joints · coordinates) = (N, 300, 150),
padded with zeros; ``y_train`` and ``y_test`` are labels, one-hot.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from csta_fast.data import npz, ntu_samples
from csta_fast.data.files import Progress, Source, track
from csta_fast.data.gathering import (
    Format,
    Gathering,
    only_file,
    positions,
    without,
    without_empty_frames,
    without_padding,
)
from csta_fast.data.layouts import KINECT_V2
from csta_fast.data.limits import Limits
from csta_fast.data.protocols import Listed
from csta_fast.data.recordings import Collection, Recording

KIND: Final = "ctr-gcn"
WANTED: Final = "an archive of CTR-GCN, .npz with x_train, y_train, x_test, y_test"
_PERSONS, _JOINTS, _COORDINATES = 2, len(KINECT_V2.joints), 3
# What the names of the archives say of how they are split.
_PROTOCOLS = {
    "_csub": "cross-subject",
    "_cset": "cross-setup",
    "_cs": "cross-subject",
    "_cv": "cross-view",
}


def read(source: Source, progress: Progress = None) -> Collection:
    """Recordings of one or two persons, called ``train_00000``, ..., ``test_00000``, ...

    Frames of zeros at the end are padding and go, and so does a person who is nowhere seen. Other
    frames without a person are dropped and counted in ``trimmed``. The only protocol is the one
    that the archive was made for, by its name, or else ``given``.
    """
    gathering = Gathering()
    name = only_file(source, ".npz", WANTED)
    with npz.opened(source, name, WANTED) as archive:
        labels = {side: npz.array(archive, f"y_{side}") for side in ("train", "test")}
        classes = _classes(labels["train"], labels["test"], source.limits)
        total = sum(map(len, labels.values()))
        rows = (
            (f"{side}_{number:05}", row, labels[side][number])
            for side in labels
            for number, row in enumerate(
                npz.rows(archive, f"x_{side}", len(labels[side]), source.limits)
            )
        )
        for sample, row, label in track(rows, total, progress):
            with gathering.skipping(sample):
                found, lost = without_empty_frames(_positions(row))
                gathering.add(Recording(sample, found, _label(label)), without(lost))
    stem = name.lower()
    protocol = next((_PROTOCOLS[part] for part in _PROTOCOLS if part in stem), "given")
    sides = Listed(*(
        frozenset(name for name in gathering.recordings if name.startswith(side))
        for side in labels
    ))  # fmt: skip
    return gathering.collection(source.path, (KIND, WANTED), KINECT_V2, classes, {protocol: sides})


def _classes(
    train: NDArray[np.generic], test: NDArray[np.generic], limits: Limits
) -> tuple[str, ...]:
    if train.ndim != 2 or test.ndim != 2 or train.shape[1] != test.shape[1]:
        raise ValueError(
            f"wanted one-hot labels of the same classes, got {train.shape} and {test.shape}"
        )
    if not 1 <= train.shape[1] <= limits.classes:
        raise limits.refuse("classes", "one-hot labels of some classes", f"{train.shape[1]}")
    for known in ntu_samples.CLASSES.values():
        if len(known) == train.shape[1]:
            return known
    return tuple(map(str, range(train.shape[1])))


def _label(one_hot: NDArray[np.generic]) -> int:
    (ones,) = np.nonzero(one_hot)
    if len(ones) != 1 or one_hot[ones[0]] != 1:
        raise ValueError(f"wanted a label with a single 1, got {len(ones)} values other than 0")
    return int(ones[0])


def _positions(row: NDArray[np.generic]) -> NDArray[np.float32]:
    if row.ndim != 2 or row.shape[1] != _PERSONS * _JOINTS * _COORDINATES:
        raise ValueError(
            f"wanted rows (frames, {_PERSONS * _JOINTS * _COORDINATES}), got {row.shape}"
        )
    split = row.reshape(len(row), _PERSONS, _JOINTS, _COORDINATES).transpose(1, 0, 2, 3)
    return without_padding(positions(split, _JOINTS))


FORMAT: Final = Format(KIND, WANTED, lambda source: npz.holds(source, "x_train"), read)
