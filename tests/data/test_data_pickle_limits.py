"""Pickles that would take all memory, all time or the process are refused, with a message."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bounded import in_bounds, skipped
from skeletons import marked

from csta_fast.data import Limits, read, safe_pickle


def _annotations(*changes: dict[str, Any]) -> bytes:
    good = {"frame_dir": "good", "label": 0, "keypoint": marked(1, 2, 25, 3), "total_frames": 2}
    bad = [{**good, "frame_dir": f"bad{number}", **each} for number, each in enumerate(changes)]
    return pickle.dumps({"split": {}, "annotations": [good, *bad]}, 4)


def _nested(leaf: Any, of: type = list, times: int = 64) -> Any:
    """Lists that hold the one below twice: small in memory, endless to go through."""
    for _ in range(times):
        leaf = of((leaf, leaf))
    return leaf


@pytest.mark.parametrize("label", [2**32 - 1, 10**9, 10**400, 10**5000], ids=int.bit_length)
def test_labels(tmp_path: Path, label: int) -> None:
    path = tmp_path / "x.pkl"
    path.write_bytes(_annotations({"label": label}))
    said = in_bounds(lambda: skipped(path))
    assert said.startswith("returned 1 and [('bad0', 'wanted a label below 10000, got ")
    assert "CSTA_FAST_LIMITS=classes=" in said
    folder = tmp_path / "st_gcn"
    folder.mkdir()
    np.save(folder / "train_data.npy", marked(2, 3, 2, 25, 2))
    (folder / "train_label.pkl").write_bytes(pickle.dumps((["a", "b"], [0, label])))
    assert "[('b', 'wanted a label below 10000" in in_bounds(lambda: skipped(folder))


@pytest.mark.parametrize(
    "change",
    [
        {"frame_dir": _nested(0)},
        {"label": _nested(0)},
        {"keypoint": _nested(0)},
        {"total_frames": _nested(0)},
        {"total_frames": 10**5000},
        {"keypoint": marked(1, 2, 17, 2), "keypoint_score": _nested(0)},
        {"keypoint": marked(1, 2, 17, 2), "keypoint_score": np.ones((1, 2, 17)),
         "img_shape": _nested(0)},
        {"keypoint": marked(1, 2, 17, 2), "keypoint_score": np.ones((1, 2, 17)),
         "img_shape": [_nested(0), 2]},
    ],
    ids=lambda change: "-".join(change),
)  # fmt: skip
def test_shared_lists_end(tmp_path: Path, change: dict[str, Any]) -> None:
    path = tmp_path / "x.pkl"
    good = {"keypoint": marked(1, 2, 17, 2), "keypoint_score": np.ones((1, 2, 17)),
            "img_shape": (9, 9)}  # fmt: skip
    first = {**good, "frame_dir": "good", "label": 0, "total_frames": 2}
    flat = "keypoint_score" in change
    bad = {
        **(first if flat else pickle.loads(_annotations())["annotations"][0]),
        "frame_dir": "bad",
    }
    held = [first if flat else pickle.loads(_annotations())["annotations"][0], {**bad, **change}]
    path.write_bytes(pickle.dumps(held, 4))
    assert in_bounds(lambda: skipped(path)).startswith("returned 1 and [(")


@pytest.mark.parametrize(
    ("split", "message"),
    [
        ({"train": _nested("a")}, "'train' holds a list"),
        ({"train": [_nested("a")]}, "'train' holds a list"),
        ({"train": [1]}, "'train' holds 1"),
        ({_nested("a", tuple, 4): ["a"]}, "a tuple holds ''"),
        ({"train": np.zeros((10**9, 0), "U1")}, "'train' is a Array"),
    ],
)
def test_shared_lists_in_a_split_end(tmp_path: Path, split: Any, message: str) -> None:
    path = tmp_path / "x.pkl"
    path.write_bytes(pickle.dumps({"split": split, "annotations": []}, 4))
    said = in_bounds(lambda: read(path, progress=False))
    assert message in said
    assert said.startswith("ValueError: path: wanted lists of names in split")


def _deep(times: int) -> bytes:
    return b"\x80\x04})" + b"\x85" * times + b"K\x01s."


_PICKLES = {
    "deep tuples": (_deep(2_000_000), "up to 100 deep"),
    "deep tuples by way of the memo": (
        b"\x80\x04})" + b"\x94" + b"".join(
            b"0h" + bytes([n]) + b"\x85\x94" for n in range(200)) + b"K\x01s.",
        "up to 100 deep",
    ),
    "tuples of the same tuples": (b"\x80\x04})" + b"2\x86" * 60 + b"K\x01s.", "fewer copies of t"),
    "one large tuple as many keys": (
        b"\x80\x04}(" + b"N" * 100_000 + b"t\x940" + b"h\x00K\x01s" * 100_000 + b".",
        "fewer copies of tuples",
    ),
    "a memo of 4 GB": (b"\x80\x02Nr\xff\xff\xff\x1f.", "number 536870911 within 8 bytes"),
    "a text memo index": (b"Np999999999999\n.", "number 999999999999 within"),
    "bytes that are not there": (b"\x80\x04\x8e" + b"\xff" * 7 + b"\x00N.", "before what it ann"),
    "a frame that is not there": (b"\x80\x04\x95" + b"\xff" * 5 + b"\0" * 3 + b"N.", "announces"),
    "a text that is not there": (b"\x80\x04X\xff\xff\xff\x7fa.", "before what it announces"),
    "a text encoded over and over": (
        b"\x80\x02c_codecs\nencode\nq\x000X\x40\x42\x0f\x00" + b"a" * 10**6 + b"q\x010"
        b"X\x06\x00\x00\x00latin1q\x020](" + b"h\x00h\x01h\x02\x86R" * 100_000 + b"e.",
        "more copies of its parts",
    ),
    "a set of a list over and over": (
        b"\x80\x02cbuiltins\nfrozenset\nq\x000](" + b"K\x01K\x02" * 50_000 + b"eq\x010]("
        + b"h\x00h\x01\x85R" * 200_000 + b"e.",
        "more copies of its parts",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("held", "message"), _PICKLES.values(), ids=_PICKLES.keys())
def test_pickles(held: bytes, message: str) -> None:
    said = in_bounds(lambda: safe_pickle.load(io.BytesIO(held), Path("x.pkl")))
    assert said.startswith("ValueError: path: wanted a pickle of plain ")
    assert message in said


def test_what_pickles_hold_is_not_limited(tmp_path: Path) -> None:
    held = {("a", ("b", (1, 2))): list(range(3)), "x": [("n", number) for number in range(10**4)]}
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        data = pickle.dumps(held, protocol)
        assert safe_pickle.load(io.BytesIO(data), Path("x.pkl")) == held
    assert safe_pickle.load(io.BytesIO(_deep(150)), Path("x"), Limits(depth=200)) is not None


def test_one_array_for_many_annotations(tmp_path: Path) -> None:
    keypoint = np.ones((1, 4000, 25, 3), np.float16)
    path = tmp_path / "x.pkl"
    path.write_bytes(_annotations(*[{"keypoint": keypoint, "total_frames": 4000}] * 500))
    said = in_bounds(lambda: len(read(path, progress=False).skipped))
    assert said.startswith("returned ")
    assert int(said.split()[1]) > 300
