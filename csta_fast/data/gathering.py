"""What every reader does alike: gather recordings, and say what was left out and why."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from csta_fast.data import checks
from csta_fast.data.files import Progress, Source, reason
from csta_fast.data.layouts import Layout
from csta_fast.data.limits import Limits
from csta_fast.data.recordings import Collection, Protocol, Recording


class Format(NamedTuple):
    """A kind of data set.

    Attributes:
        kind: as on the command line.
        wanted: what a path of this kind holds, for messages.
        recognises: whether a path holds it, by names where these suffice.
        read: the reader; what it raises is said at ``csta_fast.data.read``.
    """

    kind: str
    wanted: str
    recognises: Callable[[Source], bool]
    read: Callable[[Source, Progress], Collection]


def only_file(source: Source, suffix: str, wanted: str) -> str:
    """The name of the file that ends so.

    Raises:
        ValueError: there is none, or more than one.
    """
    names = [name for name in source.names if name.endswith(suffix)]
    if len(names) != 1:
        raise ValueError(
            f"path: wanted {wanted}, got {source.path}, which holds {plural(len(names), 'file')} "
            f"{suffix}"
        )
    return names[0]


@dataclass
class Gathering:
    """Recordings as they are read, and what was left out."""

    recordings: dict[str, Recording] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    trimmed: dict[str, str] = field(default_factory=dict)

    @contextmanager
    def skipping(self, name: str) -> Iterator[None]:
        """Note a file or sample that turns out unusable, with the reason, and go on."""
        try:
            yield
        except (ImportError, MemoryError):  # no fault of the file's
            raise
        except Exception as error:  # whatever a damaged file runs into, in whatever library
            self.skipped[name] = reason(error)

    def add(self, recording: Recording, trimmed: str = "") -> None:
        """Take a recording, with what was left out of it, if anything was."""
        if recording.name in self.recordings:
            raise ValueError(f"there is a recording {recording.name} already")
        self.recordings[recording.name] = recording
        if trimmed:
            self.trimmed[recording.name] = trimmed

    def collection(
        self,
        path: Path,
        form: tuple[str, str],
        layout: Layout,
        classes: tuple[str, ...],
        protocols: Mapping[str, Protocol],
    ) -> Collection:
        """All of it, sorted by name; ``form`` is the kind and what its path should hold.

        Raises:
            ValueError: nothing could be read.
        """
        kind, wanted = form
        if not self.recordings:
            raise ValueError(f"path: wanted {wanted}, got {path}{_reasons(self.skipped)}")
        return Collection(
            kind,
            [self.recordings[name] for name in sorted(self.recordings)],
            layout,
            classes,
            protocols,
            dict(sorted(self.skipped.items())),
            dict(sorted(self.trimmed.items())),
        )


def _reasons(skipped: Mapping[str, str]) -> str:
    if not skipped:
        return ", which holds none"
    name, why = next(iter(skipped.items()))
    return f", where all {len(skipped)} were skipped; {name}: {why}"


def content(file: bytes | Exception) -> bytes:
    """What a file holds; raises why it could not be read, or that it is empty."""
    if isinstance(file, Exception):
        raise file
    if not file.strip():
        raise ValueError("the file is empty")
    return file


def text_file(name: str, file: bytes | Exception) -> str:
    """The text of a file that says something of the other files.

    Raises:
        ValueError: it cannot be read, is empty or is no UTF-8; the message names it.
    """
    try:
        return content(file).decode()
    except (ValueError, OSError) as error:
        raise ValueError(f"path: wanted a text in UTF-8 as {name}: {error}") from error


def checked_label(value: Any, limits: Limits) -> int:
    """A label that a file holds.

    Raises:
        ValueError: it is no whole number from 0, or stands for more classes than may be.
    """
    if not checks.is_whole(value) or value < 0:
        raise ValueError(f"wanted a label that counts from 0, got {checks.said(value)}")
    if value >= limits.classes:
        raise limits.refuse("classes", f"a label below {limits.classes}", checks.said(value))
    return int(value)


def table(text: bytes, columns: int) -> NDArray[np.float64]:
    """Numbers of a text, one row a line: (rows, columns).

    Raises:
        ValueError: something is not a number, a row has more or fewer of them, or the last line
            has no end, so that its last number may have been cut.
    """
    try:
        rows = np.loadtxt(io.BytesIO(text), comments=None, ndmin=2)
    except ValueError as error:
        raise ValueError(str(error).partition(";")[0]) from None
    if rows.shape[1] != columns:
        raise ValueError(f"wanted {columns} numbers a line, got {rows.shape[1]}")
    if not text.endswith((b"\n", b"\r")):
        raise ValueError("the file is cut off: its last line has no end")
    return rows


def positions(values: ArrayLike, joints: int) -> NDArray[np.float32]:
    """Positions of a recording as float32 (persons, frames, joints, coordinates).

    Raises:
        ValueError: there are none, some are not finite, or all lie at 0.
    """
    given = np.asarray(values)
    if given.dtype.kind not in "fiu":
        raise ValueError(f"wanted positions as numbers, got an array of {given.dtype}")
    with np.errstate(over="ignore"):
        found = np.ascontiguousarray(given, np.float32)
    if found.ndim != 4 or found.shape[2] != joints:
        raise ValueError(
            f"wanted positions (persons, frames, {joints} joints, coordinates), got {found.shape}"
        )
    if 0 in found.shape:
        raise ValueError("there are no frames")
    checks.check_finite(found)
    if not found.any():
        raise ValueError("no joint was tracked: all positions are 0")
    return found


def persons_seen(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Positions without the persons who lie at 0 in every frame."""
    return values[values.any((1, 2, 3))]


def without_padding(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Positions without frames of zeros at the end, and without persons who are nowhere seen."""
    last = int(np.flatnonzero(_tracked(values))[-1])
    return persons_seen(values[:, : last + 1])


def without_empty_frames(values: NDArray[np.float32]) -> tuple[NDArray[np.float32], int]:
    """Positions without frames in which all lie at 0, and how many these were."""
    tracked = _tracked(values)
    if tracked.all():
        return values, 0
    return values.compress(tracked, axis=1), int((~tracked).sum())


def without(frames: int, what: str = "a person") -> str:
    """Of frames that were left out, a note; of none, nothing."""
    return f"{plural(frames, 'frame')} without {what}" if frames else ""


def _tracked(values: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Which frames of positions hold any joint."""
    tracked: NDArray[np.bool_] = np.any(values, axis=(0, 2, 3))
    return tracked


def plural(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"
