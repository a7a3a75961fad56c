"""Synthetic recordings of actions, of which it is known which joints and frames tell the class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from csta_fast.data.actions import ACTIONS, DISTRACTIONS, Action, Part
from csta_fast.data.bodies import rotations, stand, symmetric
from csta_fast.data.layouts import KINECT_V2
from csta_fast.data.recordings import Collection, Recording

Array = NDArray[np.float64]

_JOINTS = len(KINECT_V2.joints)
_CAMERAS = (0.0, -45.0, 45.0)  # degrees about the vertical, as in NTU RGB+D
_CAMERA_HEIGHT = 1.2  # metres above the floor
_LEGS = [
    joint
    for joint, name in enumerate(KINECT_V2.joints)
    if name.endswith(("base", "hip", "knee", "ankle", "foot"))
]
_TELLING = 0.06  # metres: a joint that the action takes further than this tells the action


class Truth(NamedTuple):
    """Where the action of a generated recording is to be seen."""

    frames: NDArray[np.bool_]  # (T,): the action lasts over these, without a gap
    joints: NDArray[np.bool_]  # (persons, V): the action moves these


@dataclass(frozen=True, kw_only=True)
class Performance(Recording):
    """A generated recording.

    Attributes:
        truth: the frames and joints that the action moves, and that attention should find.
    """

    truth: Truth


class _Subject(NamedTuple):
    """What stays the same whenever someone is recorded."""

    lengths: Array  # (V,) factors
    posture: Array  # (V, 3) radians
    vigour: float


def generate(
    classes: int = 10,
    subjects: int = 20,
    repetitions: int = 6,
    *,
    frames: tuple[int, int] = (40, 90),
    persons: int = 2,
    noise: float = 0.01,
    seed: int = 0,
) -> Collection:
    """Synthetic recordings of actions, in metres, with the joints of a Kinect v2.

    Everybody has bones of their own, a posture and a vigour; every recording has a place, a
    heading, one of three cameras, and a span of frames in which the action happens. All through
    it people sway, and now and then move a limb that has nothing to do with the action. The
    movements of an action tell its class from every other, under the default noise, too.

    Args:
        classes: how many, in the order of a fixed list.
        subjects: how many people; each performs every class.
        repetitions: of every class by everybody.
        frames: the fewest and the most frames of a recording, both at least 8.
        persons: the most people in a recording. With 1, classes that take two are left out;
            with 2 they are the only ones that show two.
        noise: standard deviation of every coordinate, in metres.
        seed: the same seed gives the same recordings, and no other random state is touched. A
            recording does not depend on how many others are generated.

    Returns:
        Recordings, each a `Performance`, whose `truth` says what the action moves. Protocols:
        "cross-subject" trains on odd subjects, "cross-view" on cameras 2 and 3.

    Raises:
        ValueError: an argument is out of its range.
    """
    actions = [action for action in ACTIONS if action.other is None or persons > 1]
    _check(len(actions), classes, subjects, repetitions, frames, persons, noise, seed)
    people = [_subject(seed, subject) for subject in range(1, subjects + 1)]
    recordings = [
        _perform(actions[label], label, people, subject, repetition, frames, noise, seed)
        for label in range(classes)
        for subject in range(1, subjects + 1)
        for repetition in range(1, repetitions + 1)
    ]
    return Collection(
        name="generated",
        recordings=sorted(recordings, key=lambda recording: recording.name),
        layout=KINECT_V2,
        classes=tuple(action.name for action in actions[:classes]),
        protocols={
            "cross-subject": lambda recording: (recording.subject or 0) % 2 == 1,
            "cross-view": lambda recording: recording.camera != 1,
        },
    )


def _check(
    known: int,
    classes: int,
    subjects: int,
    repetitions: int,
    frames: tuple[int, int],
    persons: int,
    noise: float,
    seed: int,
) -> None:
    if persons not in (1, 2):
        raise ValueError(f"persons: wanted 1 or 2, got {persons}")
    if not 1 <= classes <= known:
        raise ValueError(f"classes: wanted 1 to {known}, got {classes}")
    for name, given in (("subjects", subjects), ("repetitions", repetitions)):
        if given < 1:
            raise ValueError(f"{name}: wanted at least 1, got {given}")
    fewest, most = frames
    if not 8 <= fewest <= most:
        raise ValueError(f"frames: wanted (fewest, most) of at least 8 in order, got {frames}")
    if not 0 <= noise < np.inf:
        raise ValueError(f"noise: wanted metres, at least 0, got {noise}")
    if seed < 0:
        raise ValueError(f"seed: wanted at least 0, got {seed}")


def _subject(seed: int, subject: int) -> _Subject:
    # The zero is no class of any recording: people have random numbers of their own.
    random = np.random.default_rng((seed, 0, subject, 0))
    lengths = random.uniform(0.88, 1.12) * symmetric(random.uniform(0.94, 1.06, _JOINTS))
    posture = _loose(random.normal(0, 3, (_JOINTS, 3)))
    return _Subject(lengths, posture, random.uniform(0.8, 1.1))


def _loose(degrees: Array) -> Array:
    """Turns (V, 3) of an idle body, in radians: legs that stand turn little."""
    degrees = degrees.copy()
    degrees[_LEGS] *= 0.3
    return np.radians(degrees)


def _perform(
    action: Action,
    label: int,
    people: list[_Subject],
    subject: int,
    repetition: int,
    frames: tuple[int, int],
    noise: float,
    seed: int,
) -> Performance:
    random = np.random.default_rng((seed, label + 1, subject, repetition))
    count = int(random.integers(frames[0], frames[1] + 1))
    duration = round(count * random.uniform(0.35, 0.6))
    start = int(random.integers(0, count - duration + 1))
    phase = (np.arange(count) - start) / max(duration - 1, 1)
    camera = (subject + repetition) % len(_CAMERAS) + 1

    parts = [action.part] if action.other is None else [action.part, action.other]
    headings, places = _arrange(len(parts), camera, random)
    positions, telling = [], []
    for number, (part, heading, place) in enumerate(zip(parts, headings, places, strict=True)):
        person = people[(subject - 1 + number) % len(people)]
        moved, idle = _act(person, part, phase, random)
        telling.append(np.linalg.norm(moved - idle, axis=-1).max(0) > _TELLING)
        positions.append(moved @ rotations(np.array([0, heading, 0])).T + place)
    # A sensor numbers people as it finds them.
    order = random.permutation(len(parts))
    scene = np.stack(positions)[order]
    scene += random.normal(0, noise, scene.shape)
    return Performance(
        f"A{label + 1:03}S{subject:03}R{repetition:03}C{camera}",
        scene.astype(np.float32),
        label,
        subject=subject,
        camera=camera,
        truth=Truth((phase >= 0) & (phase <= 1), np.stack(telling)[order]),
    )


def _arrange(people: int, camera: int, random: np.random.Generator) -> tuple[Array, Array]:
    """Headings, in radians from facing the camera, and places (people, 3) on the floor."""
    heading = np.radians(_CAMERAS[camera - 1] + random.uniform(-15, 15))
    place = np.array([random.uniform(-0.6, 0.6), -_CAMERA_HEIGHT, random.uniform(2.4, 3.8)])
    if people == 1:
        return np.array([heading]), place[None]
    # Two face each other, seen from the side.
    heading += random.choice([-0.5, 0.5]) * np.pi
    forward = rotations(np.array([0, heading, 0])) @ np.array([0, 0, -1])
    half = random.uniform(0.45, 0.6) * forward
    return np.array([heading, heading + np.pi]), np.stack([place - half, place + half])


def _act(
    person: _Subject, part: Part, phase: Array, random: np.random.Generator
) -> tuple[Array, Array]:
    """Positions (T, V, 3) of someone who acts, and of the same had they not acted."""
    time = np.arange(len(phase), dtype=np.float64)
    idle = person.posture + _loose(random.normal(0, 2, (_JOINTS, 3)))
    period = random.uniform(30, 60, (_JOINTS, 3))
    sway = np.sin(2 * np.pi * (time[:, None, None] / period + random.uniform(0, 1, (_JOINTS, 3))))
    idle = idle + _loose(np.full((_JOINTS, 3), 2.5)) * sway
    sides = [
        [side for side in (each, each.mirrored()) if part.leaves_free(side)]
        for each in DISTRACTIONS
    ]
    possible = [some for some in sides if some]
    for distraction in random.choice(len(possible), 2, replace=False):
        some = possible[distraction]
        chosen = some[random.integers(len(some))]
        length = random.uniform(0.25, 0.6) * len(phase)
        begin = random.uniform(0, len(phase) - length)
        size = random.uniform(0.5, 1.3)
        idle = idle + size * _turned(chosen, (time - begin) / length)
    vigour = person.vigour * random.uniform(0.8, 1.1)
    still = stand(idle, person.lengths)
    moved = stand(idle + vigour * _turned(part, phase), person.lengths)
    for metres, course in part.shifts:
        moved += vigour * np.multiply.outer(course(phase), metres)[:, None]
    return moved, still


def _turned(part: Part, phase: Array) -> Array:
    """Rotation vectors (T, V, 3), radians."""
    turns = np.zeros((len(phase), _JOINTS, 3))
    for joint, degrees, course in part.turns:
        turns[:, KINECT_V2.joints.index(joint)] += np.multiply.outer(
            course(phase), np.radians(degrees)
        )
    return turns
