"""The one check of recordings, which every ``Collection`` goes through, and ``Clips`` again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from csta_fast.data.layouts import Layout
from csta_fast.data.recording import Recording

if TYPE_CHECKING:
    from csta_fast.data.recordings import Collection

_NUMBERS = ("subject", "camera", "setup", "view")
_LARGEST = 2**63 - 1  # of a number about a recording: the prepared file holds int64
_LARGEST_POSITION = 1e9  # no skeleton is so large in any unit, and networks overflow far above
_LONGEST = 60  # of a value in a message


def said(value: Any) -> str:
    """A value in a message: short, and in bounded time even where a stranger nested it."""
    if isinstance(value, int) and abs(value) > 2**64:
        return f"a whole number of {value.bit_length()} bits"
    if isinstance(value, str) and len(value) > _LONGEST:
        return f"{value[:_LONGEST]!r}..."
    if value is None or isinstance(value, (bool, int, float, str)):
        return repr(value)
    if isinstance(value, (np.ndarray, np.generic)):
        return f"{value.shape} of {value.dtype}"
    if isinstance(value, (list, tuple)) and len(value) <= 4 and all(map(_is_number, value)):
        return str(value)
    return f"a {type(value).__name__}"


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and (isinstance(value, float) or abs(value) <= 2**64)


def is_whole(value: Any) -> bool:
    """Whether it is a whole number, of Python or NumPy; True and False are none."""
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def check_collection(collection: Collection) -> None:
    """Look whether a collection can be used.

    Raises:
        ValueError: something in it cannot; the message names the recording, what was wanted and
            what came.
    """
    if not isinstance(collection.name, str):
        raise ValueError(f"name: wanted a string, got {said(collection.name)}")
    if not isinstance(collection.layout, Layout):
        raise ValueError(f"layout: wanted a Layout, got {said(collection.layout)}")
    _check_classes(collection.classes)
    _check_protocols(collection.protocols)
    for what in ("skipped", "trimmed"):
        _check_reasons(what, getattr(collection, what))
    check_recordings(collection.recordings, collection.layout, len(collection.classes))


def check_recordings(
    recordings: Sequence[Recording], layout: Layout, classes: int | None = None
) -> None:
    """Look whether recordings can be used together.

    Args:
        recordings: each float32 (persons, frames, joints of the layout, the same coordinates).
        layout: of their joints.
        classes: how many there are; None where it is not known.

    Raises:
        ValueError: a recording cannot; the message names it.
    """
    if isinstance(recordings, (str, bytes)) or not isinstance(recordings, Sequence):
        raise ValueError(f"recordings: wanted a sequence of Recording, got {said(recordings)}")
    names: set[str] = set()
    coordinates: int | None = None
    for number, recording in enumerate(recordings):
        if not isinstance(recording, Recording):
            raise ValueError(f"recordings: wanted a Recording, got {said(recording)} at {number}")
        if not isinstance(recording.name, str) or not recording.name:
            raise ValueError(
                f"name: wanted a string that is not empty, got {said(recording.name)} for "
                f"recording number {number}"
            )
        _check_text("name", recording.name)
        if recording.name in names:
            raise ValueError(
                f"recording {said(recording.name)}: name: wanted one of its own, got that of an "
                "earlier recording"
            )
        names.add(recording.name)
        try:
            check_positions(recording.positions, len(layout.joints), coordinates)
            check_label(recording.label, classes)
            _check_numbers(recording)
        except ValueError as error:
            raise ValueError(f"recording {said(recording.name)}: {error}") from None
        coordinates = recording.positions.shape[3]


def check_positions(positions: Any, joints: int, coordinates: int | None = None) -> None:
    """Raise ValueError unless these are positions of a recording with so many joints."""
    shape = f"(persons, frames, {joints} joints, {coordinates or ''}{' ' * bool(coordinates)}"
    wanted = f"positions: wanted a float32 array {shape}coordinates)"
    if not isinstance(positions, np.ndarray):
        raise ValueError(f"{wanted}, got {said(positions)}")
    if positions.dtype != np.float32 or positions.ndim != 4 or positions.shape[2] != joints:
        raise ValueError(f"{wanted}, got {positions.dtype} {positions.shape}")
    if coordinates not in (None, positions.shape[3]):
        raise ValueError(f"{wanted} as in the recordings before, got {positions.shape}")
    for axis, what in enumerate(("person", "frame", "joint", "coordinate")):
        if not positions.shape[axis]:
            raise ValueError(f"positions: wanted at least one {what}, got {positions.shape}")
    check_finite(positions)


def check_finite(positions: NDArray[np.float32]) -> None:
    """Raise ValueError where a position is NaN, infinite, or too large to reckon with."""
    finite = np.isfinite(positions)
    if not finite.all():
        unfit = finite.size - int(np.count_nonzero(finite))
        person, frame, joint, _ = map(int, np.argwhere(~finite)[0])
        raise ValueError(
            f"wanted finite positions, got {unfit} not finite, of {finite.size}; the first is at "
            f"person {person}, frame {frame}, joint {joint}"
        )
    largest = max(-positions.min(), positions.max())
    if largest > _LARGEST_POSITION:
        raise ValueError(f"wanted positions within {_LARGEST_POSITION:g}, got {largest:g}")


def check_label(label: Any, classes: int | None) -> None:
    """Raise ValueError unless a label is a whole number from 0, below that of the classes."""
    if not is_whole(label) or label < 0 or (classes is not None and label >= classes):
        last = "or more" if classes is None else f"to {classes - 1}"
        raise ValueError(f"label: wanted a whole number of 0 {last}, got {said(label)}")


def checked_side(side: Any, protocol: str, recording: Recording) -> bool | None:
    """Where a protocol puts a recording; a ValueError if that is no side. NumPy's bools are."""
    if side is not None and not isinstance(side, (bool, np.bool_)):
        raise ValueError(
            f"protocol: wanted True, False or None from {said(protocol)} for recording "
            f"{said(recording.name)}, got {said(side)}"
        )
    return None if side is None else bool(side)


def _check_numbers(recording: Recording) -> None:
    for what in _NUMBERS:
        number = getattr(recording, what)
        if number is not None and not (is_whole(number) and abs(number) <= _LARGEST):
            raise ValueError(f"{what}: wanted a whole number or None, got {said(number)}")


def _check_classes(classes: Any) -> None:
    if isinstance(classes, (str, bytes)) or not isinstance(classes, Sequence):
        raise ValueError(f"classes: wanted a tuple of names, got {said(classes)}")
    if not classes:
        raise ValueError("classes: wanted at least one name, got none")
    _check_names("classes", classes)


def _check_protocols(protocols: Any) -> None:
    if not isinstance(protocols, Mapping):
        raise ValueError(f"protocols: wanted functions by name, got {said(protocols)}")
    _check_names("protocols", protocols)
    for name, protocol in protocols.items():
        if not callable(protocol):
            raise ValueError(f"protocols: wanted a function for {name!r}, got {said(protocol)}")


def _check_reasons(what: str, reasons: Any) -> None:
    if not isinstance(reasons, Mapping) or not all(
        isinstance(each, str) for pair in reasons.items() for each in pair
    ):
        raise ValueError(f"{what}: wanted reasons by name, all strings, got {said(reasons)}")


def _check_text(what: str, text: str) -> None:
    """Raise ValueError unless a text can be written to a file: a lone surrogate cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{what}: wanted text that UTF-8 can hold, got {said(text)}") from None


def _check_names(what: str, names: Iterable[Any]) -> None:
    """Raise ValueError unless these are strings, each but once."""
    seen: set[str] = set()
    for name in names:
        if not isinstance(name, str):
            raise ValueError(f"{what}: wanted names as strings, got {said(name)}")
        _check_text(what, name)
        if name in seen:
            raise ValueError(f"{what}: wanted every name once, got {said(name)} twice")
        seen.add(name)
