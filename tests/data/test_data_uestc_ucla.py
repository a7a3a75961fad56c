"""UESTC, as text and as MATLAB writes it, and Northwestern-UCLA."""

from __future__ import annotations

import io
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from skeletons import marked, read, uestc, write

from csta_fast.data import Recording
from csta_fast.data.formats.uestc import PROTOCOLS

_NOTHING = np.zeros((1, 1, 25, 3), np.float32)


def test_uestc_text(tmp_path: Path) -> None:
    positions = marked(3, 25, 3)
    positions[1] = 0
    text = uestc(positions)
    write(tmp_path, {"a0_d3/a0_d3_p01_c1_skeleton.txt": text, "a39_d8_p118_c2_skeleton.txt": text})
    found = read(tmp_path)
    assert (found.name, found.layout.name, len(found.classes)) == ("uestc", "kinect-v2", 40)
    front, turning = found.recordings
    np.testing.assert_array_equal(front.positions, positions[None, [0, 2]])
    assert (front.name, front.label, front.subject) == ("a00_d3_p001_c1", 0, 1)
    assert (front.camera, front.setup, front.view) == (1, 3, 0)
    assert (turning.label, turning.subject, turning.camera) == (39, 118, 2)
    assert (turning.setup, turning.view) == (8, 8)
    assert found.classes[39] == "high knees running"
    assert found.trimmed["a00_d3_p001_c1"] == "1 frame without any joint"
    assert found.split() == ([front], [turning])


@pytest.mark.parametrize("name", ["v", "skel"])
def test_uestc_matlab(tmp_path: Path, name: str) -> None:
    matlab = pytest.importorskip("scipy.io")
    positions = marked(2, 25, 3)
    held = io.BytesIO()
    matlab.savemat(held, {name: positions.reshape(2, -1) if name == "v" else positions})
    file = "mat_from_skeleton/a7_d2_p032_c2_skeleton.mat"
    damaged = {"a7_d2_p033_c2_skeleton.mat": held.getvalue()[:200]}
    other = io.BytesIO()
    matlab.savemat(other, {"v": "text"})
    damaged["a7_d2_p034_c2_skeleton.mat"] = other.getvalue()
    found = read(write(tmp_path, {file: held.getvalue(), **damaged}))
    (recording,) = found.recordings
    np.testing.assert_array_equal(recording.positions, positions[None])
    assert (recording.subject, recording.view) == (32, 2)
    assert "damaged" in found.skipped["a7_d2_p033_c2_skeleton.mat"]
    assert "wanted a variable v" in found.skipped["a7_d2_p034_c2_skeleton.mat"]


def test_matlab_as_matlab_writes_it(tmp_path: Path) -> None:
    """Packed, in either byte order, beside other variables, whole numbers in fewer bytes."""
    matlab = pytest.importorskip("scipy.io")
    positions = np.arange(1, 151, dtype=np.float64).reshape(2, 75)
    held = io.BytesIO()
    others = {"a": "text", "b": {"c": 1}, "c": np.array([[1j]])}
    matlab.savemat(held, {**others, "v": positions}, do_compression=True)
    name = struct.pack(">I", 1 << 16 | 1) + b"v\0\0\0"
    body = struct.pack(">IIIIIIII", 6, 8, 6, 0, 5, 8, 2, 75) + name
    body += struct.pack(">II", 2, 150) + positions.astype(np.uint8).tobytes(order="F") + b"\0\0"
    other = b"MATLAB 5.0".ljust(124) + b"\1\0MI" + struct.pack(">II", 14, len(body)) + body
    files = {"a7_d2_p001_c2_skeleton.mat": held.getvalue(), "a7_d2_p002_c2_skeleton.mat": other}
    found = read(write(tmp_path, files))
    assert found.skipped == {}
    for recording in found.recordings:
        np.testing.assert_array_equal(recording.positions[0], positions.reshape(2, 25, 3))


def _all_of_one_performer(subject: int) -> list[Recording]:
    return [
        Recording(
            f"d{direction}c{camera}", _NOTHING, 0, subject, camera, direction,
            0 if camera == 1 else direction,
        )
        for direction in range(1, 9)
        for camera in (1, 2)
    ]  # fmt: skip


def test_uestc_cross_subject() -> None:
    # Counted by others: 51 train and 67 test, of 118.
    protocol = PROTOCOLS["cross-subject"]
    everybody = {s: protocol(_all_of_one_performer(s)[0]) for s in range(1, 119)}
    train = [subject for subject, side in everybody.items() if side]
    assert len(train) == 51
    assert list(everybody.values()).count(False) == 67
    assert sum(train) == 3081
    assert train[:6] == [1, 2, 6, 12, 13, 16]
    assert train[-4:] == [107, 108, 112, 113]


def test_uestc_views() -> None:
    """Of each performer's action 7 recordings are from the front, and 1 each from 7 sides."""
    recordings = _all_of_one_performer(3)

    def sides(name: str) -> tuple[int, int]:
        chosen = [PROTOCOLS[name](recording) for recording in recordings]
        return chosen.count(True), chosen.count(False)

    assert sides("cross-view-1-v0") == (7, 7)
    assert {sides(f"cross-view-1-v{view}") for view in range(1, 8)} == {(1, 13)}
    assert sides("cross-view-2-odd") == (4, 10)
    assert sides("cross-view-2-even") == (10, 4)
    assert sides("arbitrary-view") == (14, 1)
    names = {recording.name: recording for recording in recordings}
    assert PROTOCOLS["cross-view-2-odd"](names["d3c2"]) is True
    assert PROTOCOLS["cross-view-2-odd"](names["d3c1"]) is False
    assert PROTOCOLS["cross-view-1-v4"](names["d4c2"]) is True
    assert PROTOCOLS["arbitrary-view"](names["d8c2"]) is False
    assert PROTOCOLS["arbitrary-view"](names["d8c1"]) is None
    assert len(PROTOCOLS) == 12


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (lambda text: text[: len(text) // 2], "wanted frames of a line #"),
        (lambda text: text.rpartition("\n250.5")[0], "wanted frames of a line #"),
        (lambda text: text.replace("#", "", 1), "wanted frames of a line #"),
        (lambda text: text.replace(" 0\n", " 1\n", 1), "'x y z 0'"),
        (lambda text: text.replace(" 0\n", "\n"), "'x y z 0'"),
        (lambda text: text.replace("\n0.125 ", "\nnan "), "finite"),
        (lambda _: "", "empty"),
    ],
)
def test_damaged_uestc_is_skipped(tmp_path: Path, harm: Any, reason: str) -> None:
    good = uestc(marked(2, 25, 3))
    bad = "a1_d1_p002_c1_skeleton.txt"
    found = read(write(tmp_path, {"a1_d1_p001_c1_skeleton.txt": good, bad: harm(good)}))
    assert len(found.recordings) == 1
    assert reason in found.skipped[bad]


def test_misnamed_uestc_is_skipped(tmp_path: Path) -> None:
    text = uestc(marked(1, 25, 3))
    bad = ["a40_d1_p001_c1", "a1_d9_p001_c1", "a1_d1_p119_c1", "a1_d1_p001_c3", "a1_d1_p001"]
    write(tmp_path, {f"{name}_skeleton.txt": text for name in ["a1_d1_p1_c1", *bad]})
    found = read(tmp_path)
    assert [recording.name for recording in found.recordings] == ["a01_d1_p001_c1"]
    assert sorted(found.skipped) == sorted(f"{name}_skeleton.txt" for name in bad)


def _ucla(positions: Any) -> str:
    return json.dumps({"file_name": "any", "skeletons": np.asarray(positions).tolist(), "label": 3})


def test_nw_ucla(tmp_path: Path) -> None:
    positions = marked(3, 20, 3)
    names = ["a01_s01_e00_v01", "a08_s10_e01_v02", "a12_s02_e05_v03"]
    write(tmp_path / "all_sqe", {f"{name}.json": _ucla(positions) for name in names})
    found = read(tmp_path)
    assert (found.name, found.layout.name) == ("nw-ucla", "kinect-v1")
    assert [recording.name for recording in found.recordings] == names
    assert [recording.label for recording in found.recordings] == [0, 6, 9]
    assert [recording.subject for recording in found.recordings] == [1, 10, 2]
    assert [recording.view for recording in found.recordings] == [1, 2, 3]
    np.testing.assert_array_equal(found.recordings[1].positions, positions[None])
    assert found.classes[9] == "carry"
    assert found.split() == (list(found.recordings[:2]), [found.recordings[2]])


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("a01_s01_e00_v02", _ucla(marked(3, 25, 3)), "wanted skeletons (frames, 20, 3)"),
        ("a01_s01_e00_v02", _ucla(marked(3, 20, 2)), "wanted skeletons (frames, 20, 3)"),
        ("a01_s01_e00_v02", _ucla(marked(3, 20, 3) * np.float32("nan")), "finite"),
        ("a01_s01_e00_v02", _ucla(marked(3, 20, 3))[:100], "Expecting"),
        ("a01_s01_e00_v02", '{"skeletons": [[1], [1, 2]]}', "inhomogeneous"),
        ("a01_s01_e00_v02", '{"skeletons": null}', "wanted skeletons"),
        ("a01_s01_e00_v02", '{"skeletons": {}}', "numbers as skeletons"),
        ("a01_s01_e00_v02", '{"skeletons": []}', "wanted skeletons"),
        ("a01_s01_e00_v02", "[]", "numbers as skeletons"),
        ("a01_s01_e00_v02", "[" * 200_000, "numbers as skeletons"),
        ("a01_s01_e00_v02", "", "empty"),
        ("a07_s01_e00_v02", _ucla(marked(3, 20, 3)), "wanted a name"),
        ("a01_s11_e00_v02", _ucla(marked(3, 20, 3)), "wanted a name"),
        ("a01_s01_e00_v04", _ucla(marked(3, 20, 3)), "wanted a name"),
        ("labels", "{}", "wanted a name"),
    ],
)
def test_unusable_nw_ucla_is_skipped(tmp_path: Path, name: str, text: str, reason: str) -> None:
    good = {"a01_s01_e00_v01.json": _ucla(marked(3, 20, 3))}
    found = read(write(tmp_path, {**good, f"{name}.json": text}))
    assert len(found.recordings) == 1
    assert reason in found.skipped[f"{name}.json"]
