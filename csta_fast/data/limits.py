"""How much a file of a stranger may take before it is refused: all bounds that can be raised."""

from __future__ import annotations

import os
from dataclasses import dataclass, fields

_VARIABLE = "CSTA_FAST_LIMITS"


@dataclass(frozen=True)
class Limits:
    """Bounds that are known before anything is unpacked.

    They are far above every published data set. ``csta_fast.data.read`` takes others, and so does
    the environment: ``CSTA_FAST_LIMITS="classes=20000,growth=500"``.

    Attributes:
        recording_bytes: of one recording: its file, unpacked, or its row of an array. The largest
            known file has 4 MB.
        growth: how many times its size on disk an archive may hold, unpacked; as much as one
            recording it always may. Padded skeletons reach about 15, zip bombs 1000.
        classes: how many classes labels may stand for.
        depth: how deeply tuples of a pickle may lie in one another.
        files: how many files a folder, with all folders in it, or an archive may hold.
        checkpoint_bytes: of a checkpoint, and so of a network that is to be trained.
    """

    recording_bytes: int = 32 * 2**20
    growth: int = 100
    classes: int = 10_000
    depth: int = 100
    files: int = 1_000_000
    checkpoint_bytes: int = 4 * 2**30

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ValueError(f"{each.name}: wanted a whole number of 1 or more, got {value!r}")

    @staticmethod
    def from_environment() -> Limits:
        """The limits that ``CSTA_FAST_LIMITS`` asks for, else the usual ones.

        Raises:
            ValueError: the variable names no limit, or gives one no whole number.
        """
        known = [each.name for each in fields(Limits)]
        chosen = {}
        for part in filter(None, map(str.strip, os.environ.get(_VARIABLE, "").split(","))):
            name, _, value = map(str.strip, part.partition("="))
            if name not in known or not value.isdecimal() or len(value) > 18:
                raise ValueError(
                    f"{_VARIABLE}: wanted NAME=NUMBER, NAME one of {', '.join(known)}, got {part!r}"
                )
            chosen[name] = int(value)
        return Limits(**chosen)

    def unpacked(self, packed: int) -> int:
        """How many bytes may come out of so many."""
        return max(self.recording_bytes, self.growth * packed)

    def refuse(self, name: str, wanted: str, got: str) -> LimitError:
        """The error of what is over the limit ``name``."""
        return LimitError(
            f"wanted {wanted}, got {got} (limit {name}={getattr(self, name)}; "
            f"{_VARIABLE}={name}=... raises it)"
        )


class LimitError(ValueError):
    """A file is over a limit."""
