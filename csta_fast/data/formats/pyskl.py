"""Pickles of pyskl and mmaction2: a dictionary of ``split`` and ``annotations``, or a bare list.

``split`` names lists of samples; an annotation is a dictionary with ``frame_dir``, ``label``,
``keypoint`` (persons, frames, joints, coordinates) and, of 2D skeletons, ``keypoint_score``
(persons, frames, joints) and ``img_shape`` (height, width). mmaction 0.x wrote bare lists of
annotations, one file for each side of a split. Nothing that a pickle asks for is run.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from csta_fast.data import ntu_samples, safe_pickle
from csta_fast.data.files import Progress, Source, track
from csta_fast.data.gathering import Format, Gathering, persons_seen, positions
from csta_fast.data.layouts import COCO, KINECT_V2, Layout
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
    pyskl scales them; a joint of score 0 lies at 0. Persons who are nowhere seen are dropped.

    Protocols are the pairs of lists in ``split``, called as ``named_splits.protocols`` says.
    """
    gathering = Gathering()
    splits, annotations = _unpickled(source)
    layout = next(filter(None, map(_layout, annotations)), KINECT_V2)
    for number, annotation in enumerate(track(annotations, len(annotations), progress), 1):
        name = annotation.get("frame_dir") if isinstance(annotation, dict) else None
        with gathering.skipping(str(name or f"annotation {number}")):
            gathering.add(_recording(annotation, layout))
    for key, names in splits.items():
        for name in set(names) - gathering.recordings.keys():
            gathering.skipped.setdefault(name, f"it is on the list {key}, but has no annotation")
    found = list(gathering.recordings.values())
    return gathering.collection(
        source.path, (KIND, WANTED), layout, classes(found), protocols(source.path, splits, found)
    )


def _unpickled(source: Source) -> tuple[dict[str, list[str]], list[Any]]:
    """Lists of names, and annotations; a bare list makes a list of names, called as its file."""
    splits: dict[str, list[str]] = {}
    annotations: list[Any] = []
    names = [name for name in source.names if name.endswith(_SUFFIXES)]
    for name in names:
        with source.open(name) as file:
            held = safe_pickle.load(file, source.path / name if source.holds_files else source.path)
        if isinstance(held, dict) and isinstance(held.get("annotations"), list):
            found, lists = held["annotations"], _lists(source, held.get("split"))
        elif isinstance(held, list):
            stem = PurePosixPath(name).with_suffix("").as_posix().replace("/", "_")
            found, lists = held, {stem: [_name(annotation) for annotation in held]}
        else:
            got = f"a {type(held).__name__}"
            if isinstance(held, dict):
                got += " of " + ", ".join(sorted(map(str, held))[:5])
            raise ValueError(f"path: wanted {WANTED}, got {source.path}, which holds {got}")
        annotations += found
        splits.update(lists)
    return splits, annotations


def _lists(source: Source, split: Any) -> dict[str, list[str]]:
    lists = {}
    for key, names in split.items() if isinstance(split, dict) else ():
        names = names.value.tolist() if isinstance(names, safe_pickle.Array) else names
        if not isinstance(names, (list, tuple, set, frozenset)):
            raise ValueError(
                f"path: wanted lists of names in split, got {source.path}, where {key!r} is a "
                f"{type(names).__name__}"
            )
        lists[str(key)] = [str(name) for name in names]
    return lists


def _name(annotation: Any) -> str:
    return str(annotation.get("frame_dir", "")) if isinstance(annotation, dict) else ""


def _array(annotation: Mapping[str, Any], key: str) -> NDArray[Any] | None:
    value = annotation.get(key)
    return value.value if isinstance(value, safe_pickle.Array) else None


def _layout(annotation: Any) -> Layout | None:
    keypoints = _array(annotation, "keypoint") if isinstance(annotation, dict) else None
    known = keypoints is not None and keypoints.ndim == 4
    return _LAYOUTS.get(keypoints.shape[2]) if known and keypoints is not None else None


def _recording(annotation: Any, layout: Layout) -> Recording:
    if not isinstance(annotation, dict) or not isinstance(annotation.get("frame_dir"), str):
        raise ValueError("wanted a dictionary with frame_dir, label and keypoint")
    label, keypoints = annotation.get("label"), _array(annotation, "keypoint")
    if not isinstance(label, int) or isinstance(label, bool) or label < 0:
        raise ValueError(f"wanted a label that counts from 0, got {label!r}")
    if keypoints is None:
        raise ValueError("wanted an array keypoint, got none")
    frames = annotation.get("total_frames")
    if keypoints.ndim != 4 or frames not in (None, keypoints.shape[1]):
        raise ValueError(
            f"wanted keypoint (persons, {frames or 'frames'}, joints, coordinates), "
            f"got {keypoints.shape}"
        )
    coordinates = 2 if layout is COCO else 3
    if keypoints.shape[2:] != (len(layout.joints), coordinates):
        raise ValueError(
            f"wanted keypoint of {len(layout.joints)} joints and {coordinates} coordinates "
            f"({layout.name}), got {keypoints.shape}"
        )
    if layout is COCO:
        keypoints = _scored(annotation, keypoints)
    sample = ntu_samples.sample(annotation["frame_dir"])
    return Recording(
        annotation["frame_dir"],
        persons_seen(positions(keypoints, len(layout.joints))),
        label,
        *((sample.subject, sample.camera, sample.setup) if sample else ()),
    )


def _scored(annotation: Mapping[str, Any], keypoints: NDArray[Any]) -> NDArray[np.float32]:
    """(x, y, score) out of pixels and scores."""
    scores, shape = _array(annotation, "keypoint_score"), annotation.get("img_shape")
    if scores is None or scores.shape != keypoints.shape[:3]:
        got = None if scores is None else scores.shape
        raise ValueError(f"wanted keypoint_score {keypoints.shape[:3]}, got {got}")
    if not (
        isinstance(shape, (tuple, list))
        and len(shape) == 2
        and all(isinstance(each, int) and each > 0 for each in shape)
    ):
        raise ValueError(f"wanted img_shape (height, width), got {shape!r}")
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
