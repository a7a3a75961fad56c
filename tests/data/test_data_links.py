"""Nothing is lost without a word: links, folders that cannot be read, cut texts, empty frames."""

from __future__ import annotations

import io
import json
import os
import pickle
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from skeletons import marked, msr_action3d, ntu, read, uestc, utkinect, write

_FIRST, _SECOND = "S001C001P001R001A001.skeleton", "S002C001P002R001A003.skeleton"
_THIRD = "S018C001P042R001A061.skeleton"
_TEXT = ntu([[(1, marked(25, 3))]])


def _names(path: Path) -> list[str]:
    return [recording.name for recording in read(path).recordings]


def test_a_folder_that_is_linked_to_is_read(tmp_path: Path) -> None:
    """NTU RGB+D 120 in two folders, one of them on another disk."""
    write(tmp_path / "data", {f"first/{_FIRST}": _TEXT})
    write(tmp_path / "elsewhere", {f"deep/{_THIRD}": _TEXT})
    (tmp_path / "data" / "second").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "deep" / "back").symlink_to(tmp_path / "data")  # a loop
    (tmp_path / "data" / "first" / "again").symlink_to(tmp_path / "elsewhere" / "deep")
    found = read(tmp_path / "data")
    assert found.name == "ntu120"
    assert [recording.name[:4] for recording in found.recordings] == ["S001", "S018"]
    assert found.skipped == {}


def test_a_folder_that_cannot_be_listed_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, {_FIRST: _TEXT, f"closed/{_SECOND}": _TEXT})
    scandir = os.scandir

    def refuse(path: Any) -> Any:
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(PermissionError, match="closed"):
        read(tmp_path)


def _member(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


@pytest.mark.parametrize("form", ["", "gz", "xz"])
def test_links_in_a_tar(tmp_path: Path, form: str) -> None:
    path = tmp_path / ("x.tar." + form if form else "x.tar")
    other = ntu([[(1, marked(25, 3, first=900))]])
    with tarfile.open(path, f"w:{form}") as archive:  # type: ignore[call-overload]
        archive.addfile(_member(f"a/{_THIRD}", tarfile.SYMTYPE, "../real/./second.txt"))
        for name, text in ((f"a/{_FIRST}", _TEXT), ("real/second.txt", other)):
            member = tarfile.TarInfo(name)
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))
        archive.addfile(_member(f"b/{_SECOND}", tarfile.LNKTYPE, f"a/{_FIRST}"))
        archive.addfile(_member("S003C001P001R001A001.skeleton", tarfile.SYMTYPE, f"b/{_SECOND}"))
        archive.addfile(_member("S004C001P001R001A001.skeleton", tarfile.SYMTYPE, "/etc/passwd"))
        archive.addfile(_member("S005C001P001R001A001.skeleton", tarfile.LNKTYPE, "S005"))
        loop = "S006C001P001R001A001.skeleton"
        archive.addfile(_member(loop, tarfile.SYMTYPE, loop))
        archive.addfile(_member("S007C001P001R001A001.skeleton", tarfile.FIFOTYPE))
    found = read(path)
    assert [recording.name[:4] for recording in found.recordings] == [
        "S001",
        "S002",
        "S003",
        "S018",
    ]
    first, second, third, last = (recording.positions for recording in found.recordings)
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(first, third)
    np.testing.assert_array_equal(last[0, 0], marked(25, 3, first=900))
    assert {name[:4]: reason[:14] for name, reason in found.skipped.items()} == {
        "S004": "it is a link t", "S005": "it is a link t", "S006": "it is a link t",
        "S007": "wanted a regul",
    }  # fmt: skip


def test_links_in_a_zip(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"a/{_FIRST}", _TEXT)
        for name, target in ((f"b/{_SECOND}", f"../a/{_FIRST}"), (f"b/{_THIRD}", "/etc/passwd")):
            info = zipfile.ZipInfo(name)
            info.external_attr = 0o120777 << 16
            archive.writestr(info, target)
    found = read(path)
    assert [recording.name[:4] for recording in found.recordings] == ["S001", "S002"]
    assert found.skipped == {f"b/{_THIRD}": "it is a link, and leads to no file of the archive"}


@pytest.mark.parametrize("digits", [400, 5000])
def test_a_number_that_is_too_large(tmp_path: Path, digits: int) -> None:
    text = json.dumps({"skeletons": marked(2, 20, 3).tolist()})
    large = text.replace("0.125", "9" * digits, 1)
    found = read(write(tmp_path, {"a01_s01_e00_v01.json": text, "a01_s01_e00_v02.json": large}))
    assert len(found.recordings) == 1
    assert list(found.skipped) == ["a01_s01_e00_v02.json"]


_MSR, _UTK = msr_action3d(marked(2, 20, 3)), utkinect([1, 2, 3], marked(3, 20, 3))


@pytest.mark.parametrize("cut", range(1, 6))
def test_a_text_cut_within_its_last_number(tmp_path: Path, cut: int) -> None:
    msr = _MSR.replace(" 1.0\n", " 1.00000\n")
    files = {"a01_s01_e01_skeleton3D.txt": msr, "a01_s02_e01_skeleton3D.txt": msr[:-cut]}
    found = read(write(tmp_path / "msr", files))
    assert "cut off" in found.skipped["a01_s02_e01_skeleton3D.txt"]
    text = uestc(marked(2, 25, 3))
    files = {"a1_d1_p001_c1_skeleton.txt": text, "a1_d1_p002_c1_skeleton.txt": text.rstrip()[:-cut]}
    found = read(write(tmp_path / "uestc", files))
    assert "cut off" in found.skipped["a1_d1_p002_c1_skeleton.txt"]
    files = {"joints_s01_e01.txt": _UTK, "joints_s01_e02.txt": _UTK.rstrip()[:-cut]}
    labels = {"actionLabel.txt": "s01_e01\nwalk: 1 3\ns01_e02\nwalk: 1 2"}
    found = read(write(tmp_path / "utkinect", files | labels))
    reason = found.skipped["joints_s01_e02.txt"]
    assert "cut off" in reason or "number of columns changed" in reason


def test_an_end_without_a_newline_is_no_cut_of_uestc(tmp_path: Path) -> None:
    text = uestc(marked(2, 25, 3)).rstrip()
    assert len(read(write(tmp_path, {"a1_d1_p001_c1_skeleton.txt": text})).recordings) == 1


def test_utkinect_cut_at_a_frames_end(tmp_path: Path) -> None:
    cut = "".join(_UTK.splitlines(True)[:2])
    labels = "s01_e01\nwalk: 1 3\ns01_e02\nwalk: 1 2\nsitDown: 2 3"
    files = {"joints_s01_e01.txt": _UTK, "joints_s01_e02.txt": cut, "actionLabel.txt": labels}
    found = read(write(tmp_path, files))
    assert [recording.name for recording in found.recordings] == ["s01_e01_walk", "s01_e02_walk"]
    assert found.skipped == {"s01_e02_sitDown": "its interval is 2 to 3, and its file ends at 2"}


def test_utkinect_lists_every_action_once(tmp_path: Path) -> None:
    for wrong in ("s01_e01\nwalk: 1 3\nwalk: 1 2", "s01_e01\nwalk: 1 3\ns01_e01"):
        write(tmp_path, {"joints_s01_e01.txt": _UTK, "actionLabel.txt": wrong})
        with pytest.raises(ValueError, match="each but once, got"):
            read(tmp_path)


@pytest.mark.parametrize("kind", ["pyskl", "st-gcn", "ctr-gcn", "nw-ucla", "utkinect"])
def test_frames_without_anybody_are_dropped_and_counted(tmp_path: Path, kind: str) -> None:
    joints = 25 if kind in ("pyskl", "st-gcn", "ctr-gcn") else 20
    positions = marked(1, 5, joints, 3)
    positions[0, [0, 2]] = 0
    if kind == "pyskl":
        held = [{"frame_dir": "a", "label": 0, "keypoint": positions}]
        write(tmp_path, {"x.pkl": pickle.dumps(held)})
    elif kind == "st-gcn":
        np.save(tmp_path / "train_data.npy", np.pad(positions, ((0, 1), (0, 3), (0, 0), (0, 0)))
                .transpose(3, 1, 2, 0)[None])  # fmt: skip
        write(tmp_path, {"train_label.pkl": pickle.dumps((["a"], [0]))})
    elif kind == "ctr-gcn":
        x, y = np.zeros((1, 9, 150), np.float32), np.eye(60)[:1]
        x[0, :5, :75] = positions.reshape(5, 75)
        np.savez(tmp_path / "x.npz", x_train=x, y_train=y, x_test=x[:0], y_test=y[:0])
    elif kind == "nw-ucla":
        text = json.dumps({"skeletons": positions[0].tolist()})
        write(tmp_path, {"a01_s01_e00_v01.json": text})
    else:
        text = utkinect(range(1, 6), positions[0])
        write(tmp_path, {"joints_s01_e01.txt": text, "actionLabel.txt": "s01_e01\nwalk: 1 5"})
    found = read(tmp_path, kind)
    np.testing.assert_array_equal(found.recordings[0].positions, positions[:, [1, 3, 4]])
    (note,) = found.trimmed.values()
    assert note.startswith("2 frames without a")


@pytest.mark.parametrize(("labels", "warned"), [([1, 2], True), ([1, 5], True), ([0, 2], False),
                                                ([2, 3], False)])  # fmt: skip
def test_labels_that_may_count_from_1_are_told(
    tmp_path: Path, labels: list[int], warned: bool, recwarn: pytest.WarningsRecorder
) -> None:
    held = [{"frame_dir": f"a{label}", "label": label, "keypoint": marked(1, 2, 25, 3)}
            for label in labels]  # fmt: skip
    found = read(write(tmp_path, {"x.pkl": pickle.dumps(held)}))
    assert len(found.classes) == labels[-1] + 1
    told = [str(each.message) for each in recwarn]
    assert len(told) == warned
    assert all("labels of 1 to " in message and str(tmp_path) in message for message in told)


@pytest.mark.parametrize(
    ("name", "kind"),
    [("files_used_in_cvpr12_paper.txt", "msr-action3d"), ("actionLabel.txt", "utkinect")],
)
def test_a_text_that_is_no_text_is_named(tmp_path: Path, name: str, kind: str) -> None:
    files = {"a01_s01_e01_skeleton3D.txt": _MSR, "joints_s01_e01.txt": _UTK, name: b"\xff\xfe"}
    with pytest.raises(ValueError, match=f"^path: wanted a text in UTF-8 as {name}: .*codec"):
        read(write(tmp_path, files), kind)


def _error(tmp_path: Path, **changes: Any) -> str:
    good = {"frame_dir": "a", "label": 0, "keypoint": marked(1, 2, 25, 3)}
    path = tmp_path / "x.pkl"
    path.write_bytes(pickle.dumps([good, {**good, "frame_dir": "b", **changes}]))
    return read(path).skipped["b"]


def test_messages_of_pyskl(tmp_path: Path) -> None:
    assert _error(tmp_path, keypoint=[[1]]) == "wanted an array keypoint, got a list"
    assert _error(tmp_path, keypoint=None) == "wanted an array keypoint, got none"
    both = "25 joints and 3 coordinates (kinect-v2) or of 17 joints and 2 coordinates (coco)"
    assert _error(tmp_path, keypoint=marked(1, 2, 18, 2)) == (
        f"wanted keypoint of {both}, got (1, 2, 18, 2)"
    )
    assert "(kinect-v2), as in the annotations before, got (1, 2, 17, 2)" in _error(
        tmp_path, keypoint=marked(1, 2, 17, 2)
    )
    assert "as numbers, got an array of <U5" in _error(
        tmp_path, keypoint=np.full((1, 2, 25, 3), "1.000")
    )


@pytest.mark.parametrize("shape", [np.array([240, 640]), [240, 640], (240, 640)])
def test_img_shape_may_be_of_numpy(tmp_path: Path, shape: Any) -> None:
    one = {
        "frame_dir": "a", "label": 0, "keypoint": marked(1, 2, 17, 2),
        "keypoint_score": np.ones((1, 2, 17)),
    }  # fmt: skip
    held = [{**one, "img_shape": shape}, {**one, "frame_dir": "b", "img_shape": np.array([1.5, 2])}]
    found = read(write(tmp_path, {"x.pkl": pickle.dumps(held)}))
    assert found.recordings[0].positions[0, 0, 0].tolist() == pytest.approx(
        [0.125 / 320 - 1, 0.25 / 120 - 1, 1]
    )
    assert found.skipped == {"b": "wanted img_shape (height, width), got [1.5, 2.0]"}
