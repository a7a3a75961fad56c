"""NTU RGB+D 60 and 120: ``SsssCcccPpppRrrrAaaa.skeleton``, the text that the authors publish.

After the number of frames, a frame is the number of bodies, and for each a line of 10 numbers
that starts with the body's own, the number of joints, and a line of 12 numbers for every joint,
of which the first three are its position in metres.
"""

from __future__ import annotations

from functools import partial
from itertools import chain
from pathlib import PurePosixPath
from typing import Final

import numpy as np
from numpy.typing import NDArray

from csta_fast.data import ntu_samples
from csta_fast.data.files import Progress, Source
from csta_fast.data.gathering import (
    Format,
    Gathering,
    content,
    plural,
    positions,
    without,
    without_empty_frames,
)
from csta_fast.data.layouts import KINECT_V2
from csta_fast.data.recordings import Collection, Recording
from csta_fast.data.tracks import persons

_SUFFIX = ".skeleton"
_JOINTS = len(KINECT_V2.joints)
_BODY_NUMBERS = 10
_JOINT_NUMBERS = 12
_FILES = "with files SsssCcccPpppRrrrAaaa.skeleton"
_WANTED: Final[dict[ntu_samples.Version, str]] = {
    "ntu60": f"a folder or archive of NTU RGB+D {_FILES}",
    "ntu120": f"a folder or archive of NTU RGB+D 120 {_FILES}",
}


def read(version: ntu_samples.Version, source: Source, progress: Progress = None) -> Collection:
    """Recordings of one or two persons, chosen as ``csta_fast.data.tracks.persons`` says.

    Samples on the authors' list of missing or incomplete skeletons are skipped, and so are those
    of the larger version where the smaller is asked for. Frames where neither person is seen are
    dropped; they and bodies that were not chosen are counted in ``trimmed``.
    """
    gathering = Gathering()
    names = [name for name in source.names if name.endswith(_SUFFIX)]
    for name, file in source.contents(_usable(names, version, gathering), progress):
        with gathering.skipping(name):
            gathering.add(*_recording(_stem(name), content(file), version))
    return gathering.collection(
        source.path,
        (version, _WANTED[version]),
        KINECT_V2,
        ntu_samples.CLASSES[version],
        ntu_samples.PROTOCOLS[version],
    )


def _usable(names: list[str], version: ntu_samples.Version, gathering: Gathering) -> list[str]:
    """The files that are worth opening."""
    usable = []
    for name in names:
        with gathering.skipping(name):
            ntu_samples.checked_sample(_stem(name), version)
            if _stem(name) in ntu_samples.missing():
                raise ValueError("it is on the list of samples with missing skeletons")
            usable.append(name)
    return usable


def _stem(name: str) -> str:
    return PurePosixPath(name).name.removesuffix(_SUFFIX)


def _recording(name: str, text: bytes, version: ntu_samples.Version) -> tuple[Recording, str]:
    sample = ntu_samples.checked_sample(name, version)
    frames, bodies = _bodies(text)
    if not bodies:
        raise ValueError(f"there is no body in {plural(frames, 'frame')}")
    chosen, left_out = persons(bodies, frames)
    found, lost = without_empty_frames(positions(chosen, _JOINTS))
    trimmed = [without(lost)] if lost else []
    trimmed += [f"{left_out} more {'body' if left_out == 1 else 'bodies'}"] if left_out else []
    recording = Recording(
        name,
        found,
        sample.action - 1,
        sample.subject,
        sample.camera,
        sample.setup,
    )
    return recording, ", ".join(trimmed)


def _bodies(text: bytes) -> tuple[int, dict[int, tuple[list[int], NDArray[np.float64]]]]:
    """The number of frames, and each body's frames and positions (frames seen, joints, 3)."""
    lines = text.splitlines()
    frames, seen = _walk(lines)
    # A number that was cut off would still be a number, so they are counted.
    spans = [(start, start + _JOINTS) for starts in seen.values() for _, start in starts]
    numbers = 1 + frames + len(spans) * (_BODY_NUMBERS + 1 + _JOINTS * _JOINT_NUMBERS)
    if len(text.split()) != numbers:
        raise ValueError(
            f"wanted {numbers} numbers for {plural(frames, 'frame')} with {len(spans)} bodies in "
            f"all, got {len(text.split())}"
        )
    if not spans:
        return frames, {}
    joints = chain.from_iterable(lines[start:stop] for start, stop in spans)
    # Of pixels and orientations, some are not finite; positions are all that is looked at.
    table = np.loadtxt(joints, comments=None, usecols=(0, 1, 2)).reshape(-1, _JOINTS, 3)
    ends = np.cumsum([len(starts) for starts in seen.values()])[:-1]
    tracks = np.split(table, ends)
    return frames, {
        body: ([frame for frame, _ in starts], track)
        for (body, starts), track in zip(seen.items(), tracks, strict=True)
    }


def _walk(lines: list[bytes]) -> tuple[int, dict[int, list[tuple[int, int]]]]:
    """The number of frames, and for each body the frames where it is seen and its first lines."""
    seen: dict[int, list[tuple[int, int]]] = {}
    frames, line = _whole(lines, 0), 1
    for frame in range(frames):
        bodies, line = _whole(lines, line), line + 1
        for _ in range(bodies):
            body, joints = _whole(lines, line), _whole(lines, line + 1)
            if joints != _JOINTS:
                raise ValueError(f"wanted {_JOINTS} joints, got {joints} in line {line + 2}")
            starts = seen.setdefault(body, [])
            if starts and starts[-1][0] == frame:
                raise ValueError(f"body {body} is twice in frame {frame + 1}")
            starts.append((frame, line + 2))
            line += 2 + _JOINTS
    return frames, seen


def _whole(lines: list[bytes], line: int) -> int:
    """The first number of a line, which counts something: body numbers need all of 64 bits."""
    try:
        return int(lines[line].split(None, 1)[0])
    except IndexError:
        raise ValueError(f"the file ends within its frames, at line {line + 1}") from None
    except ValueError:
        got = lines[line][:20].decode(errors="replace")
        raise ValueError(f"wanted a whole number in line {line + 1}, got {got!r}") from None


def _recognises(version: ntu_samples.Version, source: Source) -> bool:
    stems = [_stem(name) for name in source.names if name.endswith(_SUFFIX)]
    samples = [found for stem in stems if (found := ntu_samples.sample(stem)) is not None]
    return bool(samples) and ntu_samples.version_of(samples) == version


FORMATS: Final = tuple(
    Format(version, wanted, partial(_recognises, version), partial(read, version))
    for version, wanted in _WANTED.items()
)
