"""Pickles of pyskl and mmaction2: a dictionary of ``split`` and ``annotations``, or a bare list.

``split`` names lists of samples; an annotation is a dictionary with ``frame_dir``, ``label``,
``keypoint`` (persons, frames, joints, coordinates) and, of 2D skeletons, ``keypoint_score``
(persons, frames, joints) and ``img_shape`` (height, width). mmaction 0.x wrote bare lists of
annotations, one file for each side of a split. Nothing that a pickle asks for is run.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from csta_fast.data import ntu_samples, safe_pickle
from csta_fast.data.checks import is_whole, said
from csta_fast.data.files import Progress, Source, track
from csta_fast.data.gathering import (
    Format,
    Gathering,
    checked_label,
    persons_seen,
    positions,
    without,
    without_empty_frames,
)
from csta_fast.data.layouts import COCO, KINECT_V2, Layout
from csta_fast.data.limits import Limits
from csta_fast.data.named_splits import classes, protocols
from csta_fast.data.recordings import Collection, Recording

KIND: Final = "pyskl"
WANTED: Final = (
    "a pickle of pyskl or mmaction2 with split and annotations, or a folder of lists such as "
    "train.pkl and val.pkl"
)
_SUFFIXES = (".pkl", ".pickle")
# Layouts by the number of joints; coordinates are (x, y, z) or (x, y, score).
_LAYOUTS: Final[dict[int, Layout]] = {25: KINECT_V2, 17: COCO}


def read(source: Source, progress: Progress = None) -> Collection:
    """The annotations of a pickle, or of all pickles in a folder.

    2D skeletons become (x, y, score): x and y run from -1 to 1 over the image, y downwards, as
    pyskl scales them; a joint of score 0 lies at 0. Persons who are nowhere seen are dropped, and
    frames without a person, too; these are counted in ``trimmed``.

    Protocols are the pairs of lists in ``split``, called as ``named_splits.protocols`` says.
    """
    gathering = Gathering()
    splits, annotations = _unpickled(source)
    layout = next(filter(None, map(_layout, annotations)), KINECT_V2)
    left = source.limits.unpacked(sum(map(source.size, _names(source))))
    for number, annotation in enumerate(track(annotations, len(annotations), progress), 1):
        with gathering.skipping(_name(annotation) or f"annotation {number}"):
            recording, trimmed = _recording(annotation, layout, source.limits)
            left -= recording.positions.nbytes
            if left < 0:  # annotations can share one array
                raise source.limits.refuse("growth", "fewer copies of arrays", "more")
            gathering.add(recording, trimmed)
    for key, names in splits.items():
        for name in set(names) - gathering.recordings.keys():
            gathering.skipped.setdefault(name, f"it is on the list {key}, but has no annotation")
    found = list(gathering.recordings.values())
    return gathering.collection(
        source.path,
        (KIND, WANTED),
        layout,
        classes(source.path, found),
        protocols(source.path, splits, found),
    )


def _names(source: Source) -> list[str]:
    return [name for name in source.names if name.endswith(_SUFFIXES)]


def _unpickled(source: Source) -> tuple[dict[str, list[str]], list[Any]]:
    """Lists of names, and annotations; a bare list makes a list of names, called as its file."""
    splits: dict[str, list[str]] = {}
    annotations: list[Any] = []
    for name in _names(source):
        path = source.path / name if source.holds_files else source.path
        with source.open(name) as file:
            held = safe_pickle.load(file, path, source.limits)
        if isinstance(held, dict) and isinstance(held.get("annotations"), list):
            found, lists = held["annotations"], _lists(path, held.get("split"))
        elif isinstance(held, list):
            stem = PurePosixPath(name).with_suffix("").as_posix().replace("/", "_")
            found, lists = held, {stem: [_name(annotation) for annotation in held]}
        else:
            got = f"a {type(held).__name__}"
            if isinstance(held, dict):
                got += " of " + ", ".join(sorted(map(said, held))[:5])
            raise ValueError(f"path: wanted {WANTED}, got {path}, which holds {got}")
        annotations += found
        splits.update(lists)
    return splits, annotations


def _lists(path: Path, split: Any) -> dict[str, list[str]]:
    lists = {}
    for key, held in split.items() if isinstance(split, dict) else ():
        names = safe_pickle.listed(held)
        if not isinstance(names, (list, tuple, set, frozenset)):
            raise ValueError(
                f"path: wanted lists of names in split, got {path}, where {said(key)} is "
                f"{said(names)}"
            )
        wrong = next((name for name in names if not isinstance(name, str)), "")
        if wrong != "" or not isinstance(key, (str, int)):
            raise ValueError(
                f"path: wanted lists of names in split, all strings, got {path}, where "
                f"{said(key)} holds {said(wrong)}"
            )
        lists[str(key)] = list(names)
    return lists


def _name(annotation: Any) -> str:
    """What an annotation is called, or nothing."""
    name = annotation.get("frame_dir", "") if isinstance(annotation, dict) else ""
    return name if isinstance(name, str) else ""


def _array(annotation: Mapping[str, Any], key: str) -> NDArray[Any]:
    value = annotation.get(key)
    found = safe_pickle.array(value)
    if found is None:
        got = "none" if value is None else said(value)
        raise ValueError(f"wanted an array {key}, got {got}")
    return found


def _layout(annotation: Any) -> Layout | None:
    held = annotation.get("keypoint") if isinstance(annotation, dict) else None
    keypoints = safe_pickle.array(held)
    if keypoints is None or keypoints.ndim != 4:
        return None
    return _LAYOUTS.get(keypoints.shape[2])


def _recording(annotation: Any, layout: Layout, limits: Limits) -> tuple[Recording, str]:
    name = _name(annotation)
    if not name:
        raise ValueError("wanted a dictionary with frame_dir, label and keypoint")
    label = checked_label(annotation.get("label"), limits)
    keypoints = _array(annotation, "keypoint")
    frames = annotation.get("total_frames")
    right = frames is None or (is_whole(frames) and [frames] == [*keypoints.shape[1:2]])
    if keypoints.ndim != 4 or not right:
        wanted = "frames" if frames is None else said(frames)
        raise ValueError(
            f"wanted keypoint (persons, {wanted}, joints, coordinates), got {keypoints.shape}"
        )
    if not _fits(layout, keypoints):
        if any(_fits(each, keypoints) for each in _LAYOUTS.values()):
            wanted = f"{_described(layout)}, as in the annotations before"
        else:
            wanted = " or of ".join(map(_described, _LAYOUTS.values()))
        raise ValueError(f"wanted keypoint of {wanted}, got {keypoints.shape}")
    if layout is COCO:
        keypoints = _scored(annotation, keypoints)
    found, lost = without_empty_frames(persons_seen(positions(keypoints, len(layout.joints))))
    sample = ntu_samples.sample(name)
    known = (sample.subject, sample.camera, sample.setup) if sample else ()
    return Recording(name, found, label, *known), without(lost)


def _coordinates(layout: Layout) -> int:
    """How many an annotation has; the score of 2D joints is kept apart."""
    return 2 if layout is COCO else 3


def _fits(layout: Layout, keypoints: NDArray[Any]) -> bool:
    return keypoints.shape[2:] == (len(layout.joints), _coordinates(layout))


def _described(layout: Layout) -> str:
    return f"{len(layout.joints)} joints and {_coordinates(layout)} coordinates ({layout.name})"


def _scored(annotation: Mapping[str, Any], keypoints: NDArray[Any]) -> NDArray[np.float32]:
    """(x, y, score) out of pixels and scores."""
    scores = safe_pickle.array(annotation.get("keypoint_score"))
    if scores is None or scores.dtype.kind not in "fiu" or scores.shape != keypoints.shape[:3]:
        got = said(annotation.get("keypoint_score") if scores is None else scores)
        raise ValueError(f"wanted an array keypoint_score {keypoints.shape[:3]}, got {got}")
    shape = safe_pickle.listed(annotation.get("img_shape"))
    if not (
        isinstance(shape, (tuple, list))
        and len(shape) == 2
        and all(is_whole(each) and 0 < each < 2**31 for each in shape)
    ):
        raise ValueError(f"wanted img_shape (height, width), got {said(shape)}")
    half = np.array(shape[::-1], np.float32) / 2
    scaled = (keypoints.astype(np.float32) - half) / half
    joined = np.concatenate([scaled, scores[..., None].astype(np.float32)], axis=3)
    return np.where(scores[..., None] != 0, joined, np.float32(0))


FORMAT: Final = Format(
    KIND,
    WANTED,
    # Labels in a pickle beside arrays in .npy files are another kind of data set.
    lambda source: (
        any(name.endswith(_SUFFIXES) for name in source.names)
        and not any(name.endswith(".npy") for name in source.names)
    ),
    read,
)
