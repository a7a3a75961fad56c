"""Collections of recordings that know their protocols."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from csta_fast.data import checks, writing
from csta_fast.data.layouts import Layout
from csta_fast.data.recording import Recording as Recording


class Split(NamedTuple):
    """The two sides of a protocol."""

    train: list[Recording]
    test: list[Recording]


# True for a recording to train on, False for one to test on, None for one to leave out.
Protocol = Callable[[Recording], bool | None]


@dataclass(frozen=True)
class Collection:
    """A data set in memory.

    It is checked when it is made, whoever makes it: every recording has a name of its own, the
    joints of the layout, as many coordinates as the others, at least one person and one frame,
    finite positions, and a label that has a class. Classes may be without recordings, and a single
    class is a collection, too: it can be looked at and tested on, though not trained on.

    Attributes:
        name: the kind of data set, as on the command line.
        recordings: in a fixed order; readers sort them by name.
        layout: of the joints of every recording.
        classes: a name for every label; no two are alike.
        protocols: the official ways to split the recordings, by name; the first is the default.
        skipped: files and samples that were left out, each with the reason.
        trimmed: recordings that hold less than their files do, each with what was left out of it.

    Raises:
        ValueError: something does not fit; the message names the recording, what was wanted and
            what came.
    """

    name: str
    recordings: Sequence[Recording]
    layout: Layout
    classes: tuple[str, ...]
    protocols: Mapping[str, Protocol]
    skipped: Mapping[str, str] = field(default_factory=dict)
    trimmed: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        checks.check_collection(self)
        object.__setattr__(self, "classes", tuple(self.classes))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it to one file that ``csta_fast.data.read`` reads at once, protocols included.

        Raises:
            ValueError: the name does not end in .npz, or the layout is not one of ``LAYOUTS``.
            FileNotFoundError: there is no such folder.
        """
        writing.save(self, path)

    def split(self, protocol: str | None = None) -> Split:
        """The recordings to train on and to test on, under a protocol or the default one.

        Raises:
            ValueError: there is no such protocol, one side of it is empty, or it says of a
                recording anything but True, False and None.
        """
        if protocol is None:
            protocol = next(iter(self.protocols), "")
        if protocol not in self.protocols:
            known = ", ".join(self.protocols) or "none, for its files do not say how to split it"
            raise ValueError(f"protocol: {self.name} has {known}, got {protocol!r}")
        sides = self.sides(protocol)
        pairs = list(zip(self.recordings, sides, strict=True))
        split = Split(
            [recording for recording, side in pairs if side is True],
            [recording for recording, side in pairs if side is False],
        )
        if not split.train or not split.test:
            raise ValueError(
                f"protocol: {protocol!r} of {self.name} leaves {len(split.train)} recordings to "
                f"train on and {len(split.test)} to test on, of {len(self.recordings)}"
            )
        return split

    def sides(self, protocol: str) -> list[bool | None]:
        """For every recording whether it is one to train on, to test on, or None of them.

        Raises:
            ValueError: the protocol says anything else of a recording.
        """
        chosen = self.protocols[protocol]
        return [checks.checked_side(chosen(each), protocol, each) for each in self.recordings]
