"""Our own file, read: see ``csta_fast.data.writing``, which says what it holds."""

from __future__ import annotations

import json
import math
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from csta_fast.data import npz
from csta_fast.data.checks import said
from csta_fast.data.files import Progress, Source, track
from csta_fast.data.gathering import Format, only_file
from csta_fast.data.layouts import LAYOUTS
from csta_fast.data.protocols import Listed
from csta_fast.data.recordings import Collection, Recording
from csta_fast.data.writing import LEFT_OUT, TEST, TRAIN, UNKNOWN, VERSION

KIND: Final = "csta-fast"
WANTED: Final = "a file that Collection.save wrote, .npz"
# Of every array its columns, where that is fixed, and the kinds of its dtype.
_ARRAYS: Final = {
    "positions": (0, "f"),
    "shapes": (4, "iu"),
    "numbers": (5, "iu"),
    "sides": (0, "iu"),
}
_TEXT: Final[dict[str, type]] = {
    "names": list,
    "kind": str,
    "layout": str,
    "classes": list,
    "protocols": list,
    "skipped": dict,
    "trimmed": dict,
}


def read(source: Source, progress: Progress = None) -> Collection:
    """The collection as it was saved. Its protocols know its recordings, and no others."""
    name = only_file(source, ".npz", WANTED)
    with npz.opened(source, name, WANTED) as archive:
        version = npz.array(archive, "csta_fast")
        if version.shape or version != VERSION:
            got = f"version {version}" if not version.shape else said(version)
            raise ValueError(f"it was written in {got} of the form, not in version {VERSION}")
        text = json.loads(npz.array(archive, "text").tobytes().decode())
        if not isinstance(text, dict):
            raise ValueError("its text is no object")
        for key, kind in _TEXT.items():
            if not isinstance(text.get(key), kind):
                raise ValueError(f"wanted a {kind.__name__} {key}, got {said(text.get(key))}")
        arrays = {key: npz.array(archive, key) for key in track(_ARRAYS, len(_ARRAYS), progress)}
        return _collection(text, arrays)


def _collection(text: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> Collection:
    names, protocols = text["names"], text["protocols"]
    if text["layout"] not in LAYOUTS:
        known = ", ".join(LAYOUTS)
        raise ValueError(f"wanted a layout of {known}, got {said(text['layout'])}")
    for key, (columns, kinds) in _ARRAYS.items():
        shape = {"positions": arrays[key].shape[:1], "sides": (len(protocols), len(names))}
        wanted = shape.get(key, (len(names), columns))
        if arrays[key].shape != wanted or arrays[key].dtype.kind not in kinds:
            raise ValueError(
                f"its parts do not fit each other: wanted {key} {wanted}, got {said(arrays[key])}"
            )
    sides = arrays["sides"]
    if not np.isin(sides, (LEFT_OUT, TEST, TRAIN)).all():
        raise ValueError("wanted sides of -1, 0 and 1 alone")
    _check_strings(names)  # before they become parts of a set
    recordings = _recordings(names, arrays["positions"], arrays["shapes"], arrays["numbers"])
    return Collection(
        text["kind"],
        recordings,
        LAYOUTS[text["layout"]],
        tuple(text["classes"]),
        {
            protocol: Listed(_chosen(names, side, TRAIN), _chosen(names, side, TEST))
            for protocol, side in zip(_check_strings(protocols), sides, strict=True)
        },
        text["skipped"],
        text["trimmed"],
    )


def _check_strings(names: list[Any]) -> list[str]:
    for name in names:
        if not isinstance(name, str):
            raise ValueError(f"wanted names as strings, got {said(name)}")
    if len(set(names)) != len(names):
        raise ValueError("wanted every name once, of recordings and of protocols")
    return names


def _recordings(
    names: list[str],
    positions: NDArray[np.float32],
    shapes: NDArray[np.int64],
    numbers: NDArray[np.int64],
) -> list[Recording]:
    found, start = [], 0
    for name, shape, row in zip(names, shapes.tolist(), numbers.tolist(), strict=True):
        size = math.prod(shape)
        if min(shape) < 1 or start + size > positions.size:
            raise ValueError(f"its parts do not fit each other: {said(name)} has shape {shape}")
        known = (None if number == UNKNOWN else number for number in row[1:])
        values = positions[start : start + size].reshape(shape)
        found.append(Recording(name, values, row[0], *known))
        start += size
    if start != positions.size:
        raise ValueError(
            f"its parts do not fit each other: wanted {start} positions, got {positions.size}"
        )
    return found


def _chosen(names: list[str], sides: NDArray[np.int8], side: int) -> frozenset[str]:
    return frozenset(names[number] for number in np.flatnonzero(sides == side))


FORMAT: Final = Format(KIND, WANTED, lambda source: npz.holds(source, "csta_fast"), read)
