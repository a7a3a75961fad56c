"""Collections of one's own, and files that claim to be one, are looked at before they are used."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from skeletons import marked

from csta_fast.data import LAYOUTS, ClipOptions, Clips, Collection, Recording, read

_KINECT = LAYOUTS["kinect-v2"]


def _nan(*shape: int) -> np.ndarray[Any, Any]:
    positions = marked(*shape)
    positions[0, 1, 7, 2] = np.nan
    return positions


def _recordings() -> list[Recording]:
    return [Recording(name, marked(1, 3, 25, 3), label) for label, name in enumerate("abc")]


def _collection(**changes: Any) -> Collection:
    parts = {
        "name": "mine",
        "recordings": _recordings(),
        "layout": _KINECT,
        "classes": ("sit", "stand", "walk"),
        "protocols": {"first": lambda recording: recording.name == "a"},
    }
    return Collection(**{**parts, **changes})


_BAD_RECORDINGS: list[tuple[dict[str, Any], str]] = [
    ({"positions": _nan(1, 3, 25, 3)}, "finite positions, got 1 .* frame 1, joint 7"),
    ({"positions": _nan(1, 3, 25, 3) * np.float32("inf")}, "finite positions"),
    ({"positions": np.full((1, 3, 25, 3), -1e10, np.float32)}, r"within 1e\+09, got 1e\+10"),
    ({"positions": marked(1, 3, 17, 3)}, r"25 joints, 3 coordinates\), got float32 \(1, 3, 17, 3"),
    ({"positions": marked(1, 3, 25, 2)}, r"as in the recordings before, got \(1, 3, 25, 2"),
    ({"positions": marked(3, 25, 3)}, r"got float32 \(3, 25, 3\)"),
    ({"positions": marked(0, 3, 25, 3)}, "at least one person"),
    ({"positions": marked(1, 0, 25, 3)}, "at least one frame"),
    ({"positions": marked(1, 3, 25, 3).astype(np.float64)}, "wanted a float32 array .* float64"),
    ({"positions": marked(1, 3, 25, 3).tolist()}, "wanted a float32 array .*, got a list"),
    ({"label": 3}, "label: wanted a whole number of 0 to 2, got 3"),
    ({"label": 999}, "0 to 2, got 999"),
    ({"label": -1}, "0 to 2, got -1"),
    ({"label": 0.5}, "0 to 2, got 0.5"),
    ({"label": 1.0}, "0 to 2, got 1.0"),
    ({"label": True}, "0 to 2, got True"),
    ({"label": "1"}, "0 to 2, got '1'"),
    ({"label": None}, "0 to 2, got None"),
    ({"label": 10**5000}, "0 to 2, got a whole number of 16610 bits"),
    ({"name": "a"}, "name: wanted one of its own"),
    ({"subject": "third"}, "subject: wanted a whole number or None, got 'third'"),
    ({"view": 2**63}, "view: wanted a whole number or None"),
]


@pytest.mark.parametrize(
    ("changes", "message"), _BAD_RECORDINGS, ids=[m for _, m in _BAD_RECORDINGS]
)
def test_the_recording_is_named(changes: dict[str, Any], message: str) -> None:
    recordings = _recordings()
    recordings[2] = replace(recordings[2], **changes)
    name = recordings[2].name
    with pytest.raises(ValueError, match=f"^recording '{name}': .*{message}"):
        _collection(recordings=recordings)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"classes": "abc"}, "classes: wanted a tuple of names, got 'abc'"),
        ({"classes": ()}, "classes: wanted at least one name"),
        ({"classes": 3}, "classes: wanted a tuple of names, got 3"),
        ({"classes": ("a", 1, "c")}, "classes: wanted names as strings, got 1"),
        ({"classes": ("a", "b", "a")}, "classes: wanted every name once, got 'a' twice"),
        ({"classes": ("a", "b", "\ud800")}, r"classes: wanted text that UTF-8 .* got '\\ud800'"),
        ({"recordings": [replace(_recordings()[0], name="\udcff")]}, "name: wanted text that UTF"),
        ({"recordings": ["a"]}, "recordings: wanted a Recording, got 'a' at 0"),
        ({"recordings": iter(())}, "recordings: wanted a sequence"),
        ({"recordings": [replace(_recordings()[0], name="")]}, "name: wanted a string .* number 0"),
        ({"recordings": [replace(_recordings()[0], name=7)]}, "name: wanted a string .* got 7"),
        ({"layout": "kinect-v2"}, "layout: wanted a Layout, got 'kinect-v2'"),
        ({"layout": LAYOUTS["coco"]}, "^recording 'a': positions: .* 17 joints"),
        ({"protocols": {"x": 3}}, "protocols: wanted a function for 'x', got 3"),
        ({"protocols": ["x"]}, "protocols: wanted functions by name"),
        ({"skipped": {"x": 3}}, "skipped: wanted reasons by name"),
        ({"trimmed": "x"}, "trimmed: wanted reasons by name"),
        ({"name": 3}, "name: wanted a string, got 3"),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(value),
)
def test_the_part_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _collection(**changes)


def test_what_fits_is_taken() -> None:
    assert _collection(classes=["sit", "stand", "walk"]).classes == ("sit", "stand", "walk")
    assert _collection(layout=replace(_KINECT, name="mine")).layout.name == "mine"
    flat = [replace(each, positions=each.positions[..., :2], label=np.int64(0))
            for each in _recordings()]  # fmt: skip
    # One class can be looked at; what needs two is training.
    assert len(_collection(recordings=flat, classes=("all",)).recordings) == 3
    assert _collection(recordings=[]).recordings == []
    with pytest.raises(ValueError, match=r"^recording 'b': label"):
        replace(_collection(), classes=("sit",))


def test_a_protocol_puts_every_recording_on_a_side_or_on_none(tmp_path: Path) -> None:
    sides = {"a": np.bool_(True), "b": np.bool_(False), "c": None}
    collection = _collection(protocols={"mine": lambda recording: sides[recording.name]})
    assert [[each.name for each in side] for side in collection.split()] == [["a"], ["b"]]
    for wrong in (1, "train", np.array([True])):
        sides["c"] = wrong
        with pytest.raises(ValueError, match=r"wanted True, False or None from 'mine' for .* 'c'"):
            collection.split()
        with pytest.raises(ValueError, match=r"wanted True, False or None from 'mine' for .* 'c'"):
            collection.save(tmp_path / "x.npz")


def test_what_turns_bodies_wants_space() -> None:
    flat = [replace(each, positions=each.positions[..., :2]) for each in _recordings()]
    for options in (ClipOptions(normalise="aligned"), ClipOptions(rotation=10.0)):
        with pytest.raises(ValueError, match=r"(normalise|rotation): wanted 3 coordinates .*got 2"):
            Clips(flat, _KINECT, options, persons=1)


def test_bodies_without_size_are_not_divided_by_it() -> None:
    small = [replace(each, positions=each.positions * np.float32(1e-44)) for each in _recordings()]
    clips = Clips(small, _KINECT, ClipOptions(unit_size=True), persons=1)
    assert clips[0].x.isfinite().all()


def test_clips_look_again() -> None:
    collection = _collection()
    options = ClipOptions()
    collection.recordings[1].positions[0, 0, 0, 0] = np.inf  # since it was checked
    with pytest.raises(ValueError, match=r"^recording 'b': .*finite positions"):
        Clips(collection.recordings, collection.layout, options, persons=1)
    with pytest.raises(ValueError, match=r"^recording 'a': .* 17 joints"):
        Clips(_recordings(), LAYOUTS["coco"], options, persons=1)


def _text(**changes: Any) -> Callable[[dict[str, Any]], None]:
    def change(arrays: dict[str, Any]) -> None:
        text = json.loads(arrays["text"].tobytes())
        for key, value in changes.items():
            if value is None:
                del text[key]
            else:
                text[key] = value
        arrays["text"] = np.frombuffer(json.dumps(text).encode(), np.uint8)

    return change


def _array(key: str, index: Any, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(arrays: dict[str, Any]) -> None:
        arrays[key][index] = value

    return change


def _made(key: str, make: Callable[[Any], Any]) -> Callable[[dict[str, Any]], None]:
    def change(arrays: dict[str, Any]) -> None:
        arrays[key] = make(arrays[key])

    return change


def _without_the_last(axis: int) -> Callable[[dict[str, Any]], None]:
    """Nothing of the last recording along an axis, and its positions gone."""

    def change(arrays: dict[str, Any]) -> None:
        arrays["shapes"][2, axis] = 0
        arrays["positions"] = arrays["positions"][: -3 * 25 * 3]

    return change


_INCONSISTENT: dict[str, Callable[[dict[str, Any]], None]] = {
    "label 999": _array("numbers", (1, 0), 999),
    "label -1": _array("numbers", (1, 0), -1),
    "no label": _array("numbers", (1, 0), np.iinfo(np.int64).min),
    "label 0.5": _made("numbers", lambda numbers: numbers + 0.5),
    "bool numbers": _made("numbers", lambda numbers: numbers > 0),
    "numbers of 4 columns": _made("numbers", lambda numbers: numbers[:, :4]),
    "numbers of 2 rows": _made("numbers", lambda numbers: numbers[:2]),
    "20 joints": _array("shapes", slice(None), (1, 15, 5, 3)),
    "17 joints": _text(layout="coco"),
    "other coordinates": _array("shapes", 1, (1, 9, 25, 1)),
    "0 frames": _without_the_last(1),
    "0 persons": _without_the_last(0),
    "-1 persons": _array("shapes", (1, slice(2)), -1),
    "a shape that overflows": _array("shapes", 1, (2**32, 2**32, 1, 1)),
    "a shape beyond the end": _array("shapes", (2, 1), 4),
    "a shape that ends early": _array("shapes", (2, 1), 2),
    "shapes of numbers": _made("shapes", lambda shapes: shapes + 0.0),
    "shapes in a row": _made("shapes", lambda shapes: shapes.reshape(-1)),
    "NaN": _array("positions", 7, np.nan),
    "infinite": _array("positions", 7, -np.inf),
    "float64": _made("positions", lambda positions: positions.astype(np.float64)),
    "big-endian": _made("positions", lambda positions: positions.astype(">f4")),
    "positions in rows": _made("positions", lambda positions: positions.reshape(3, -1)),
    "more positions": _made("positions", lambda positions: np.append(positions, np.float32(1))),
    "classes a string": _text(classes="abc"),
    "no classes": _text(classes=[]),
    "classes are missing": _text(classes=None),
    "a class is a number": _text(classes=["a", 1, "c"]),
    "a class twice": _text(classes=["a", "b", "b"]),
    "a class fewer": _text(classes=["a", "b"]),
    "a name twice": _text(names=["a", "b", "b"]),
    "a name is a number": _text(names=["a", "b", 3]),
    "a name is a list": _text(names=["a", "b", ["c"]]),
    "an empty name": _text(names=["a", "b", ""]),
    "names a string": _text(names="abc"),
    "a name fewer": _text(names=["a", "b"]),
    "unknown layout": _text(layout="mine"),
    "layout a list": _text(layout=["kinect-v2"]),
    "kind a number": _text(kind=3),
    "protocols a string": _text(protocols="x"),
    "a protocol is null": _text(protocols=[[None]]),
    "a protocol more": _text(protocols=["first", "second"]),
    "skipped a list": _text(skipped=["x"]),
    "skipped of numbers": _text(skipped={"x": 3}),
    "trimmed a string": _text(trimmed="x"),
    "side 2": _array("sides", (0, 1), 2),
    "sides of numbers": _made("sides", lambda sides: sides + 0.5),
    "version 1.5": _made("csta_fast", lambda version: version + 0.5),
    "versions": _made("csta_fast", lambda version: np.array([version])),
    "text of another width": _made("text", lambda text: text.astype(np.int16)),
    "text is no UTF-8": _made("text", lambda text: text | 128),
}


@pytest.mark.parametrize("change", _INCONSISTENT.values(), ids=_INCONSISTENT.keys())
def test_inconsistent_prepared_files_are_refused(
    tmp_path: Path, change: Callable[[dict[str, Any]], None]
) -> None:
    path = tmp_path / "all.npz"
    _collection().save(path)
    arrays = {key: value.copy() for key, value in np.load(path).items()}
    np.savez(path, **arrays)
    assert len(read(path, progress=False).recordings) == 3  # as it was
    change(arrays)
    np.savez(path, **arrays)
    with pytest.raises(
        ValueError, match=rf"^path: wanted a file that .* got {re.escape(str(path))}: ."
    ):
        read(path, progress=False)
