"""Annotations of pyskl and mmaction2: 3D and 2D, their splits, and what cannot be used."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from skeletons import marked, read

_FIRST, _SECOND = "S001C001P001R001A003", "S002C001P003R002A051"


def _annotation(name: str, label: int, keypoint: Any, **more: Any) -> dict[str, Any]:
    frames = np.shape(keypoint)[1]
    return {
        "frame_dir": name, "label": label, "keypoint": keypoint, "total_frames": frames, **more,
    }  # fmt: skip


def _write(path: Path, held: Any) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(pickle.dumps(held, 4))
    return path


def _pair() -> list[dict[str, Any]]:
    positions = marked(2, 4, 25, 3)
    positions[0] = 0
    return [
        _annotation(_FIRST, 2, positions.astype(np.float16)),
        _annotation(_SECOND, 50, marked(2, 3, 25, 3)),
    ]


def test_3d(tmp_path: Path) -> None:
    split = {
        "xsub_train": [_FIRST],
        "xsub_val": [_SECOND],
        "xview_train": [_SECOND],
        "xview_val": [_FIRST],
    }
    found = read(_write(tmp_path / "ntu60_3d.pkl", {"split": split, "annotations": _pair()}))
    assert (found.name, found.layout.name) == ("pyskl", "kinect-v2")
    one, two = found.recordings
    np.testing.assert_array_equal(one.positions, marked(2, 4, 25, 3)[1:])
    np.testing.assert_array_equal(two.positions, marked(2, 3, 25, 3))
    assert one.positions.dtype == np.float32
    assert (two.label, two.subject, two.camera, two.setup) == (50, 3, 1, 2)
    assert len(found.classes) == 60
    assert found.classes[two.label] == "kick someone"
    assert list(found.protocols) == ["cross-subject", "cross-view"]
    assert found.split() == ([one], [two])
    assert found.split("cross-view") == ([two], [one])


def test_2d_runs_over_the_image(tmp_path: Path) -> None:
    keypoint = np.zeros((1, 2, 17, 2), np.float16)
    keypoint[0, :, 3] = [[320, 60], [0, 240]]
    keypoint[0, 1, 5] = [640, 120]
    score = np.zeros((1, 2, 17), np.float16)
    score[0, :, 3] = [0.5, 0.25]
    annotation = _annotation("v_1", 0, keypoint, keypoint_score=score, img_shape=(240, 640))
    found = read(_write(tmp_path / "hmdb.pkl", {"split": {}, "annotations": [annotation]}))
    (recording,) = found.recordings
    expected = np.zeros((1, 2, 17, 3), np.float32)
    expected[0, :, 3] = [[0, -0.5, 0.5], [-1, 1, 0.25]]
    np.testing.assert_array_equal(recording.positions, expected)
    assert found.layout.name == "coco"
    with pytest.raises(ValueError, match="do not say how to split it, got ''"):
        found.split()


def test_numbered_and_plain_splits(tmp_path: Path) -> None:
    annotations = [_annotation(name, 0, marked(1, 2, 25, 3)) for name in "abc"]
    split = {
        "train1": ["a"], "test1": ["b", "c"], "train2": ("b",), "test2": np.array(["a"]),
        "train": ["c"], "val": ["a"], "test": ["b", "gone"], "other": ["a"],
    }  # fmt: skip
    found = read(_write(tmp_path / "x.pkl", {"split": split, "annotations": annotations}))
    sides = {
        name: tuple("".join(each.name for each in side) for side in found.split(name))
        for name in found.protocols
    }
    assert sides == {"1": ("a", "bc"), "2": ("b", "a"), "given": ("c", "b")}
    assert found.skipped == {"gone": "it is on the list test, but has no annotation"}


def test_bare_lists(tmp_path: Path) -> None:
    one, two = _pair()
    _write(tmp_path / "xsub" / "train.pkl", [one])
    _write(tmp_path / "xsub" / "val.pkl", [two])
    found = read(tmp_path)
    assert [each.name for each in found.split("cross-subject").train] == [_FIRST]
    assert [each.name for each in found.split("cross-subject").test] == [_SECOND]
    # One list alone does not say what is tested, but its names do.
    alone = read(_write(tmp_path / "both.pkl", [one, two]))
    assert list(alone.protocols) == ["cross-subject", "cross-view"]
    assert [each.name for each in alone.split("cross-subject").test] == [_SECOND]


def test_a_sample_on_both_sides_is_refused(tmp_path: Path) -> None:
    split = {"xsub_train": [_FIRST, _SECOND], "xsub_val": [_SECOND]}
    path = _write(tmp_path / "x.pkl", {"split": split, "annotations": _pair()})
    with pytest.raises(ValueError, match=f"both sides of cross-subject have {_SECOND}"):
        read(path)


_GOOD = marked(1, 2, 25, 3)
_SCORES = {"keypoint_score": np.ones((1, 2, 17)), "img_shape": (10, 10)}


@pytest.mark.parametrize(
    ("annotation", "reason"),
    [
        (_annotation("x", 0, _GOOD, total_frames=3), r"wanted keypoint \(persons, 3, joints"),
        (_annotation("x", 0, _GOOD[..., :2]), "25 joints and 3 coordinates"),
        (_annotation("x", 0, marked(1, 2, 18, 3)), "25 joints and 3 coordinates"),
        (_annotation("x", 0, _GOOD[0]), "wanted keypoint"),
        (_annotation("x", 0, _GOOD * np.float32("nan")), "finite positions"),
        (_annotation("x", 0, _GOOD * 0), "no joint was tracked"),
        (_annotation("x", 0, _GOOD[:, :0]), "no frames"),
        (_annotation("x", -1, _GOOD), "wanted a label"),
        (_annotation("x", True, _GOOD), "wanted a label"),
        ({"frame_dir": "x", "label": 0, "raw_file": "kp/x.pkl"}, "array keypoint, got none"),
        (_annotation("ok", 0, _GOOD), "there is a recording ok already"),
        ({"label": 0}, "wanted a dictionary"),
        ("x", "wanted a dictionary"),
    ],
)
def test_unusable_annotations_are_skipped(tmp_path: Path, annotation: Any, reason: str) -> None:
    held = {"annotations": [_annotation("ok", 0, _GOOD), annotation]}
    found = read(_write(tmp_path / "x.pkl", held))
    assert [recording.name for recording in found.recordings] == ["ok"]
    assert len(found.skipped) == 1
    assert reason.replace("\\", "") in next(iter(found.skipped.values()))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"keypoint_score": None}, "wanted an array keypoint_score (1, 2, 17), got None"),
        ({"keypoint_score": np.ones((1, 2, 16))}, "got (1, 2, 16)"),
        ({"img_shape": None}, "wanted img_shape"),
        ({"img_shape": (0, 5)}, "wanted img_shape"),
        ({"img_shape": "ab"}, "wanted img_shape"),
    ],
)
def test_2d_needs_scores_and_the_image(
    tmp_path: Path, changes: dict[str, Any], reason: str
) -> None:
    bad = _annotation("x", 0, marked(1, 2, 17, 2), **{**_SCORES, **changes})
    good = _annotation("ok", 0, marked(1, 2, 17, 2), **_SCORES)
    found = read(_write(tmp_path / "x.pkl", [good, bad]))
    assert reason in found.skipped["x"]
    assert len(found.recordings) == 1


@pytest.mark.parametrize(
    "held",
    [{"split": {}}, {"annotations": 3}, 7, {"annotations": [], "split": {"train": 3}}, [], [1]],
)
def test_other_pickles_are_refused(tmp_path: Path, held: Any) -> None:
    path = _write(tmp_path / "x.pkl", held)
    with pytest.raises(ValueError, match=rf"^path: wanted .*{path}"):
        read(path)
