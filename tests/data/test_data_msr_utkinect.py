"""MSR-Action3D and UTKinect: small files in their formats, and the real ones where they are."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
import pytest
from skeletons import marked, msr_action3d, read, utkinect, write

from csta_fast.data import Collection, Recording
from csta_fast.data.formats.utkinect import PROTOCOLS

_DATA = Path(os.environ.get("CSTA_FAST_DATA", Path(__file__).parents[3] / "shared" / "data"))
_USED = "files_used_in_cvpr12_paper.txt"


def _real(archive: str) -> Collection:
    if not (_DATA / archive).exists():
        pytest.skip(f"no {archive} in {_DATA}; CSTA_FAST_DATA names its folder")
    return read(_DATA / archive)


def test_msr_action3d(tmp_path: Path) -> None:
    first, second = marked(4, 20, 3), marked(2, 20, 3, first=500)
    first[1] = 0
    write(
        tmp_path / "deep",
        {
            "a08_s02_e01_skeleton3D.txt": msr_action3d(first),
            "a20_s09_e03_skeleton3D.txt": msr_action3d(second),
        },
    )
    found = read(tmp_path)
    assert found.name == "msr-action3d"
    assert [r.name for r in found.recordings] == ["a08_s02_e01", "a20_s09_e03"]
    one, other = found.recordings
    assert one.positions.dtype == np.float32
    np.testing.assert_array_equal(one.positions, first[None, [0, 2, 3]])
    np.testing.assert_array_equal(other.positions, second[None])
    assert (one.label, one.subject, other.label, other.subject) == (7, 2, 19, 9)
    assert found.classes[one.label] == "draw tick"
    assert found.trimmed == {"a08_s02_e01": "1 frame without any joint"}
    assert not found.skipped
    assert found.split().train == [other]
    assert found.split().test == [one]


def test_msr_action3d_keeps_to_the_list(tmp_path: Path) -> None:
    text = msr_action3d(marked(1, 20, 3))
    names = ["a01_s01_e01", "a01_s02_e01", "a01_s03_e01"]
    files = {f"{name}_skeleton3D.txt": text for name in names}
    write(tmp_path, {**files, _USED: "\n".join([*names[:2], "a02_s01_e01"])})
    found = read(tmp_path, "msr-action3d")
    assert [recording.name for recording in found.recordings] == names[:2]
    assert found.skipped == {
        "a01_s03_e01_skeleton3D.txt": f"it is not on {_USED}",
        "a02_s01_e01": f"it is on {_USED}, but not there",
    }


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (msr_action3d(marked(1, 20, 3))[:-30], "20 lines a frame|number of columns"),
        (msr_action3d(marked(2, 20, 3)).rpartition("\n1")[0], "the file is cut off"),
        ("".join(msr_action3d(marked(1, 20, 3)).splitlines(True)[:19]), "20 lines a frame, got 19"),
        (msr_action3d(marked(1, 20, 3)).replace(" 1.0", ""), "4 numbers a line, got 3"),
        (msr_action3d(marked(1, 20, 3)).replace("0.125 ", "nan ", 1), "finite positions, got 1"),
        (msr_action3d(marked(1, 20, 3)).replace("0.125 ", "1e39 ", 1), "finite positions, got 1"),
        (msr_action3d(marked(1, 20, 3)).replace("0.125 ", "zero ", 1), "could not convert"),
        (msr_action3d(np.zeros((3, 20, 3), np.float32)), "no joint was tracked"),
        (" \n", "the file is empty"),
        ("", "the file is empty"),
    ],
)
def test_unusable_files_are_skipped_with_the_reason(tmp_path: Path, text: str, reason: str) -> None:
    good = msr_action3d(marked(1, 20, 3))
    write(tmp_path, {"a01_s01_e01_skeleton3D.txt": good, "a01_s02_e01_skeleton3D.txt": text})
    found = read(tmp_path)
    assert [recording.name for recording in found.recordings] == ["a01_s01_e01"]
    assert list(found.skipped) == ["a01_s02_e01_skeleton3D.txt"]
    assert re.search(reason, *found.skipped.values())
    (tmp_path / "a01_s01_e01_skeleton3D.txt").unlink()
    with pytest.raises(ValueError, match=rf"^path: wanted .*, got {tmp_path}, where all 1 were"):
        read(tmp_path)


@pytest.mark.parametrize("name", ["a21_s01_e01", "a00_s01_e01", "a01_s11_e01", "a01_s1_e01", "x"])
def test_misnamed_files_are_skipped(tmp_path: Path, name: str) -> None:
    text = msr_action3d(marked(1, 20, 3))
    write(tmp_path, {"a01_s01_e01_skeleton3D.txt": text, f"{name}_skeleton3D.txt": text})
    assert "wanted a name" in read(tmp_path).skipped[f"{name}_skeleton3D.txt"]


def test_utkinect(tmp_path: Path) -> None:
    positions = marked(6, 20, 3)
    labels = "s01_e01\nwalk: 12 16\nsitDown: 20 18 \ns06_e02\nclapHands: 9 10\ncarry:  NaN NaN\n"
    write(
        tmp_path,
        {
            "joints_s01_e01.txt": utkinect([10, 12, 14, 14, 16, 18], positions),
            "joints_s06_e02.txt": utkinect([9, 10, 11, 12, 13, 14], positions + 100),
            "joints_s07_e02.txt": utkinect([9, 10, 11, 12, 13, 14], positions + 100),
            "actionLabel.txt": labels,
        },
    )
    found = read(tmp_path)
    assert found.name == "utkinect"
    walk, clap = found.recordings
    assert (walk.name, walk.label, walk.subject) == ("s01_e01_walk", 0, 1)
    assert (clap.name, clap.label, clap.subject) == ("s06_e02_clapHands", 9, 6)
    np.testing.assert_array_equal(walk.positions, positions[None, [1, 2, 4]])
    np.testing.assert_array_equal(clap.positions, positions[None, :2] + 100)
    assert found.trimmed == {"s01_e01_walk": "1 frame with a repeated number"}
    assert found.skipped == {
        "joints_s07_e02.txt": "s07_e02 is not in the label file",
        "s01_e01_sitDown": "its interval is 20 to 18",
        "s06_e02_carry": "its interval is nan to nan",
    }
    assert found.split().train == [walk]
    assert found.split("leave-one-sequence-out-12").test == [clap]
    # The modified list is preferred; a sequence without a file is reported.
    write(tmp_path, {"actionLabel_modified.txt": "s01_e01\nthrow: 14 18\ns10_e02\nwalk: 1 2\n"})
    (throw,) = (found := read(tmp_path)).recordings
    np.testing.assert_array_equal(throw.positions, positions[None, [2, 4, 5]])
    assert found.skipped["s10_e02"] == "joints_s10_e02.txt is missing or was skipped"


def test_utkinect_halves() -> None:
    sides = [PROTOCOLS["cross-subject"](Recording("x", marked(1, 1, 20, 3), 0, s))
             for s in range(1, 11)]  # fmt: skip
    assert sides == [True] * 5 + [False] * 5


def test_utkinect_needs_labels(tmp_path: Path) -> None:
    write(tmp_path, {"joints_s01_e01.txt": utkinect([1], marked(1, 20, 3))})
    with pytest.raises(ValueError, match=r"has no actionLabel\.txt"):
        read(tmp_path)
    for wrong in ("s01_e01\nfly: 1 2", "walk: 1 2", "s01_e01\nwalk: 1", "s11_e01\nwalk: 1 2"):
        write(tmp_path, {"actionLabel.txt": wrong})
        with pytest.raises(ValueError, match=r"wanted 'sSS_eEE' or 'action: first last' in"):
            read(tmp_path)


def test_utkinect_skips_a_truncated_sequence(tmp_path: Path) -> None:
    text = utkinect([1, 2], marked(2, 20, 3))
    files = {"joints_s01_e01.txt": text, "joints_s01_e02.txt": text[:-40]}
    labels = "s01_e01\nwalk: 1 2\ns01_e02\nwalk: 1 2"
    found = read(write(tmp_path, {**files, "actionLabel.txt": labels}))
    assert [recording.name for recording in found.recordings] == ["s01_e01_walk"]
    assert "number of columns changed" in found.skipped["joints_s01_e02.txt"]


def test_real_msr_action3d() -> None:
    found = _real("msr_action3d.tar.xz")
    assert len(found.recordings) == 557
    assert len(found.skipped) == 10
    sides = {name: tuple(map(len, found.split(name))) for name in found.protocols}
    assert sides == {
        "cross-subject": (284, 273),
        "as1": (114, 105),
        "as2": (116, 112),
        "as3": (111, 111),
    }
    lengths = [recording.positions.shape[1] for recording in found.recordings]
    assert (min(lengths), max(lengths), sum(lengths)) == (13, 76, 22077 - 252)
    lost = sum(int(note.split()[0]) for note in found.trimmed.values())
    assert (len(found.trimmed), lost) == (13, 252)
    assert {recording.label for recording in found.recordings} == set(range(20))
    _stands(found, 1)


def test_real_utkinect() -> None:
    found = _real("utkinect.tar.xz")
    assert len(found.recordings) == 199
    assert found.skipped == {"s10_e02_carry": "its interval is nan to nan"}
    assert tuple(map(len, found.split())) == (100, 99)
    folds = [name for name in found.protocols if name.startswith("leave-one-sequence-out-")]
    tests = [recording.name for fold in folds for recording in found.split(fold).test]
    assert len(folds) == 20
    assert sorted(tests) == [recording.name for recording in found.recordings]
    lengths = [recording.positions.shape[1] for recording in found.recordings]
    assert (min(lengths), max(lengths)) == (5, 110)
    assert np.mean(lengths) == pytest.approx(29.3, abs=0.05)
    assert sum(int(note.split()[0]) for note in found.trimmed.values()) == 160
    _stands(found, 1)


def _stands(found: Collection, persons: int) -> None:
    """People are upright, their feet lowest, and left and right are on two sides."""
    joints = found.layout.joints
    mean = np.mean([recording.positions.mean((0, 1)) for recording in found.recordings], 0)
    height = mean @ found.layout.upwards
    assert joints[int(height.argmax())] == "head"
    assert "foot" in joints[int(height.argmin())]
    assert height[found.layout.spine[1]] > height[found.layout.spine[0]]
    sideways = {name: mean[number, 0] for number, name in enumerate(joints)}
    pairs = [name[5:] for name in joints if name.startswith("left ")]
    signs = {np.sign(sideways[f"left {pair}"] - sideways[f"right {pair}"]) for pair in pairs}
    assert len(signs) == 1
    for recording in found.recordings:
        assert recording.positions.shape[0] == persons
        assert recording.positions.dtype == np.float32
        assert np.isfinite(recording.positions).all()
        for child, parent in found.layout.bones:
            bone = recording.positions[:, :, child] - recording.positions[:, :, parent]
            assert np.median(np.linalg.norm(bone, axis=-1)) < 0.8
