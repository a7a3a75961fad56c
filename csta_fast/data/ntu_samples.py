"""NTU RGB+D: what the names of its samples say, its classes, its protocols and its missing samples.

Shahroudy et al., CVPR 2016 (60 classes); Liu et al., TPAMI 2019 (120 classes).
"""

from __future__ import annotations

import re
from functools import cache
from importlib import resources
from typing import Final, Literal, NamedTuple

from csta_fast.data.protocols import Divided
from csta_fast.data.recordings import Protocol

Version = Literal["ntu60", "ntu120"]

_NAME = re.compile(r"S(\d{3})C(\d{3})P(\d{3})R(\d{3})A(\d{3})")
_LIST = "ntu_missing_skeletons.txt"

_SUBJECTS_60 = frozenset(
    {1, 2, 4, 5, 8, 9, 13, 14, 15, 16, 17, 18, 19, 25, 27, 28, 31, 34, 35, 38}
)  # fmt: skip
_SUBJECTS_120 = _SUBJECTS_60 | {
    45, 46, 47, 49, 50, 52, 53, 54, 55, 56, 57, 58, 59, 70, 74, 78, 80, 81, 82, 83, 84, 85, 86, 89,
    91, 92, 93, 94, 95, 97, 98, 100, 103,
}  # fmt: skip

PROTOCOLS: Final[dict[Version, dict[str, Protocol]]] = {
    "ntu60": {
        "cross-subject": Divided("subject", _SUBJECTS_60),
        "cross-view": Divided("camera", frozenset({2, 3})),
    },
    "ntu120": {
        "cross-subject": Divided("subject", _SUBJECTS_120),
        "cross-setup": Divided("setup", frozenset(range(2, 33, 2))),
    },
}

_CLASSES_60 = (
    "drink water", "eat a meal", "brush teeth", "brush hair", "drop", "pick up", "throw",
    "sit down", "stand up", "clap", "read", "write", "tear up paper", "put on a jacket",
    "take off a jacket", "put on a shoe", "take off a shoe", "put on glasses", "take off glasses",
    "put on a hat", "take off a hat", "cheer up", "wave a hand", "kick something",
    "reach into a pocket", "hop", "jump up", "phone call", "play with a phone", "type",
    "point to something", "take a selfie", "check the time", "rub hands", "nod or bow",
    "shake the head", "wipe the face", "salute", "put palms together", "cross hands in front",
    "sneeze or cough", "stagger", "fall", "headache", "chest pain", "back pain", "neck pain",
    "nausea or vomiting", "fan oneself", "punch or slap someone", "kick someone", "push someone",
    "pat someone's back", "point at someone", "hug", "give something to someone",
    "touch someone's pocket", "shake hands", "walk towards each other", "walk apart",
)  # fmt: skip
_CLASSES_MORE = (
    "put on headphones", "take off headphones", "shoot at the basket", "bounce a ball",
    "swing a tennis racket", "juggle table tennis balls", "hush", "flick hair", "thumb up",
    "thumb down", "OK sign", "victory sign", "staple a book", "count money", "cut nails",
    "cut paper", "snap fingers", "open a bottle", "sniff", "squat down", "toss a coin",
    "fold paper", "ball up paper", "play with a magic cube", "apply cream on the face",
    "apply cream on a hand", "put on a bag", "take off a bag", "put something into a bag",
    "take something out of a bag", "open a box", "move heavy objects", "shake a fist",
    "throw up a hat", "hands up", "cross arms", "arm circles", "arm swings", "run on the spot",
    "butt kicks", "cross toe touch", "side kick", "yawn", "stretch oneself", "blow the nose",
    "hit someone with something", "wield a knife at someone", "knock someone over",
    "grab someone's things", "shoot at someone", "step on a foot", "high five",
    "cheers and drink", "carry something together", "take a photo of someone", "follow someone",
    "whisper in someone's ear", "exchange things", "support someone", "rock paper scissors",
)  # fmt: skip
CLASSES: Final[dict[Version, tuple[str, ...]]] = {
    "ntu60": _CLASSES_60,
    "ntu120": _CLASSES_60 + _CLASSES_MORE,
}


class Sample(NamedTuple):
    """The numbers in a name SsssCcccPpppRrrrAaaa, counted from 1."""

    setup: int
    camera: int
    subject: int
    replication: int
    action: int


# The largest that the numbers of each version can be.
_LAST: Final[dict[Version, Sample]] = {
    "ntu60": Sample(17, 3, 40, 2, 60),
    "ntu120": Sample(32, 3, 106, 2, 120),
}


def sample(name: str) -> Sample | None:
    """What a name says, or None for a name of another form."""
    match = _NAME.fullmatch(name)
    return Sample(*map(int, match.groups())) if match else None


def checked_sample(name: str, version: Version) -> Sample:
    """What a name says.

    Raises:
        ValueError: the name is of another form, or no such sample is in this version.
    """
    found = sample(name)
    if found is None:
        raise ValueError("wanted a name SsssCcccPpppRrrrAaaa.skeleton")
    for number, last, what in zip(found, _LAST[version], Sample._fields, strict=True):
        if not 1 <= number <= last:
            raise ValueError(f"wanted a {what} of 1 to {last} in {version}, got {number}")
    return found


def version_of(samples: list[Sample]) -> Version:
    """The smaller version if it has all of these samples."""
    last = _LAST["ntu60"]
    small = all(each.setup <= last.setup and each.action <= last.action for each in samples)
    return "ntu60" if small else "ntu120"


@cache
def missing() -> frozenset[str]:
    """The 535 samples with missing or incomplete skeletons, 302 of them in the smaller version."""
    text = (resources.files("csta_fast.data") / "lists" / _LIST).read_text()
    lines = [line.split() for line in text.splitlines() if not line.startswith("#")]
    return frozenset(f"{session}A{int(action):03}" for session, *rest in lines for action in rest)
