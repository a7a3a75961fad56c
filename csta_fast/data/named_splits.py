"""Protocols and classes of data sets that came as lists of named samples, and not as folders."""

from __future__ import annotations

import re
import warnings
from collections.abc import Collection as Names
from collections.abc import Mapping, Sequence
from pathlib import Path

from csta_fast.data import ntu_samples
from csta_fast.data.protocols import Listed
from csta_fast.data.recordings import Protocol, Recording

_SIDE = re.compile(r"(?P<name>.*?)_?(?P<side>train|val|test)(?P<number>\d*)")
_OFFICIAL = {"xsub": "cross-subject", "xview": "cross-view", "xset": "cross-setup"}


def protocols(
    path: Path, lists: Mapping[str, Names[str]], recordings: Sequence[Recording]
) -> dict[str, Protocol]:
    """The pairs among lists of names.

    ``xsub_train`` and ``xsub_val`` are ``cross-subject`` (likewise ``xview``, ``xset``), ``train1``
    and ``test1`` are ``1``, ``train`` and ``val`` are ``given``; beside ``test``, ``val`` is left
    out. Where there is no pair and the names are those of NTU RGB+D, its own protocols serve.

    Raises:
        ValueError: a sample is to be trained on and tested on.
    """
    sides: dict[str, dict[str, frozenset[str]]] = {}
    for key, names in lists.items():
        match = _SIDE.fullmatch(key)
        if match:
            official = (name for stem, name in _OFFICIAL.items() if stem in match["name"])
            name = next(official, match["name"] + match["number"] or "given")
            sides.setdefault(name, {})[match["side"]] = frozenset(names)
    found: dict[str, Protocol] = {}
    for name, side in sides.items():
        test = side.get("test", side.get("val"))
        if test is not None and "train" in side:
            both = side["train"] & test
            if both:
                raise ValueError(
                    f"path: wanted lists without a common sample, got {path}, where both sides of "
                    f"{name} have {min(both)}"
                )
            found[name] = Listed(side["train"], test)
    samples = _samples(recordings)
    if found or not samples:
        return found
    return ntu_samples.PROTOCOLS[ntu_samples.version_of(samples)]


def classes(path: Path, recordings: Sequence[Recording]) -> tuple[str, ...]:
    """Those of NTU RGB+D where all names and labels are its own, else numbers.

    Warns where the first class has no recording, for the labels may count from 1. Classes without
    recordings are not refused: a part of a data set keeps the labels of the whole.
    """
    samples = _samples(recordings)
    labels = [recording.label for recording in recordings]
    if samples and [sample.action - 1 for sample in samples] == labels:
        return ntu_samples.CLASSES[ntu_samples.version_of(samples)]
    if labels and min(labels) == 1:
        warnings.warn(
            f"label: {path} has labels of 1 to {max(labels)}, and class 0 has no recording; if "
            "they count from 1, subtract 1 in the file",
            stacklevel=2,
        )
    return tuple(map(str, range(max(labels, default=0) + 1)))


def _samples(recordings: Sequence[Recording]) -> list[ntu_samples.Sample]:
    """What the names say, or nothing where one of them is not a name of NTU RGB+D."""
    found = [ntu_samples.sample(recording.name) for recording in recordings]
    known = [sample for sample in found if sample is not None]
    return known if len(known) == len(found) else []
