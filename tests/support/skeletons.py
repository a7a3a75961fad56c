"""Small data sets written in the formats of the large ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from csta_fast import data
from csta_fast.data import Collection


def read(path: Path, kind: str | None = None) -> Collection:
    """A data set, as it must be whatever its kind."""
    found = data.read(path, kind, progress=False)
    names = [recording.name for recording in found.recordings]
    assert names == sorted(set(names))
    for recording in found.recordings:
        positions = recording.positions
        assert positions.dtype == np.float32
        assert positions.ndim == 4
        assert positions.shape[2] == len(found.layout.joints)
        assert positions.flags.c_contiguous
        assert positions.flags.writeable
        assert np.isfinite(positions).all()
        assert positions.any((1, 2, 3)).all()  # everybody is seen somewhere
        assert 0 <= recording.label < len(found.classes)
    return found


def marked(*shape: int, first: int = 1) -> NDArray[np.float32]:
    """Values that tell every place apart, all exact as text, in float16 and in float32."""
    return (np.arange(first, first + np.prod(shape)).reshape(shape) / 8).astype(np.float32)


def write(folder: Path, files: dict[str, bytes | str]) -> Path:
    """Files in a folder; it."""
    for name, held in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(held.encode() if isinstance(held, str) else held)
    return folder


def lines(rows: NDArray[np.float32], end: str = "") -> str:
    """One row a line."""
    return "".join(" ".join(f"{value:.7g}" for value in row) + f"{end}\n" for row in rows)


def msr_action3d(positions: NDArray[np.float32]) -> str:
    """(frames, 20, 3)."""
    return lines(positions.reshape(-1, 3), " 1.0")


def utkinect(numbers: Sequence[int], positions: NDArray[np.float32]) -> str:
    """Frame numbers, and (frames, 20, 3)."""
    return "".join(
        f"{number}   {lines(frame.reshape(1, -1), '  ')}"
        for number, frame in zip(numbers, positions, strict=True)
    )


def ntu(frames: Sequence[Sequence[tuple[int, NDArray[np.float32]]]]) -> str:
    """Of every frame the bodies: a number and (25, 3)."""
    text = f"{len(frames)}\n"
    for bodies in frames:
        text += f"{len(bodies)}\n"
        for body, joints in bodies:
            text += f"{body} 0 1 1 1 1 0 0.02 -0.3 2\n{len(joints)}\n"
            text += lines(joints, " 250.5 -inf nan 7 0.1 0.2 0.3 0.4 2")
    return text


def uestc(positions: NDArray[np.float32]) -> str:
    """(frames, 25, 3)."""
    text = ""
    for frame in positions:
        text += "#\n"
        for joint in frame:
            text += lines(joint[None], " 0") + "940.5 512.25 1\n250.5 210.75 2\n"
    return text
