"""Damaged files of every kind: each is read, left out with a reason, or refused; nothing else.

``CSTA_FAST_FUZZ=5000 pytest tests/data/test_data_fuzz.py`` tries so many of every kind.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import random
import tarfile
import tempfile
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from skeletons import marked, msr_action3d, ntu, uestc, utkinect, write

from csta_fast.data import LAYOUTS, Collection, Recording, read

_TRIES = int(os.environ.get("CSTA_FAST_FUZZ", "30"))
_NTU = [f"S001C001P00{n}R001A00{n}" for n in (1, 2)]

# Of every kind of file its name, what lies in it, what else lies there, and the kind of data set.
_Case = tuple[str, bytes, dict[str, bytes | str], str]


def _npz(**arrays: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    return file.getvalue()


def _prepared() -> dict[str, np.ndarray]:
    recordings = [Recording(name, marked(1, 2, 25, 3), label) for label, name in enumerate("ab")]
    parts = (recordings, LAYOUTS["kinect-v2"], ("x", "y"), {"p": lambda each: each.name == "a"})
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "prepared.npz")
        Collection("mine", *parts).save(path)
        return dict(np.load(path))


def _tar(form: str) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=f"w:{form}") as archive:  # type: ignore[call-overload]
        for name in _NTU:
            text = ntu([[(1, marked(25, 3))]]).encode()
            member = tarfile.TarInfo(f"{name}.skeleton")
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text))
        link = tarfile.TarInfo(f"{_NTU[0][:-1]}3.skeleton")
        link.type, link.linkname = tarfile.SYMTYPE, f"{_NTU[1]}.skeleton"
        archive.addfile(link)
    return file.getvalue()


def _zip() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in _NTU:
            archive.writestr(f"{name}.skeleton", ntu([[(1, marked(25, 3))]]))
    return file.getvalue()


def _pickle(protocol: int, coco: bool = False) -> bytes:
    one = {"label": 0, "keypoint": marked(1, 2, 25, 3).astype(np.float16), "total_frames": 2}
    if coco:
        one = {"label": 1, "keypoint": marked(1, 2, 17, 2), "keypoint_score": np.ones((1, 2, 17)),
               "img_shape": (240, 320)}  # fmt: skip
    held = [{"frame_dir": name, **one} for name in _NTU]
    split = {"xsub_train": _NTU[:1], "xsub_val": np.array(_NTU[1:])}
    return pickle.dumps({"split": split, "annotations": held}, protocol)


def _matlab(packed: bool) -> bytes:
    matlab = pytest.importorskip("scipy.io")
    file = io.BytesIO()
    matlab.savemat(file, {"v": marked(2, 75)}, do_compression=packed)
    return file.getvalue()


def _npy() -> bytes:
    file = io.BytesIO()
    np.save(file, marked(2, 3, 2, 25, 2))
    return file.getvalue()


_LABELS = pickle.dumps((_NTU, [0, 1]))
_EYE = np.eye(60, dtype=np.float32)
_X = marked(1, 2, 150)
_CASES: dict[str, Callable[[], _Case]] = {
    "ntu": lambda: (f"{_NTU[0]}.skeleton", ntu([[(1, marked(25, 3))]] * 2).encode(), {}, "ntu60"),
    "msr": lambda: ("a01_s01_e01_skeleton3D.txt", msr_action3d(marked(2, 20, 3)).encode(), {},
                    "msr-action3d"),
    "msr list": lambda: ("files_used_in_cvpr12_paper.txt", b"a01_s01_e01\na01_s02_e01\n",
                         {"a01_s01_e01_skeleton3D.txt": msr_action3d(marked(2, 20, 3))},
                         "msr-action3d"),
    "utkinect": lambda: ("joints_s01_e01.txt", utkinect([1, 2], marked(2, 20, 3)).encode(),
                         {"actionLabel.txt": "s01_e01\nwalk: 1 2"}, "utkinect"),
    "utkinect labels": lambda: ("actionLabel.txt", b"s01_e01\nwalk: 1 2\npull: NaN NaN\n",
                                {"joints_s01_e01.txt": utkinect([1, 2], marked(2, 20, 3))},
                                "utkinect"),
    "uestc": lambda: ("a1_d1_p001_c1_skeleton.txt", uestc(marked(2, 25, 3)).encode(), {}, "uestc"),
    "uestc mat": lambda: ("a1_d1_p001_c1_skeleton.mat", _matlab(False), {}, "uestc"),
    "uestc packed mat": lambda: ("a1_d1_p001_c1_skeleton.mat", _matlab(True), {}, "uestc"),
    "nw-ucla": lambda: ("a01_s01_e00_v01.json",
                        json.dumps({"skeletons": marked(2, 20, 3).tolist()}).encode(), {},
                        "nw-ucla"),
    "ctr-gcn": lambda: ("x.npz", _npz(x_train=_X, y_train=_EYE[:1], x_test=_X, y_test=_EYE[:1]),
                        {}, "ctr-gcn"),
    "st-gcn": lambda: ("train_data.npy", _npy(), {"train_label.pkl": _LABELS}, "st-gcn"),
    "st-gcn labels": lambda: ("train_label.pkl", _LABELS, {"train_data.npy": _npy()}, "st-gcn"),
    "pyskl 0": lambda: ("x.pkl", _pickle(0), {}, "pyskl"),
    "pyskl 2": lambda: ("x.pkl", _pickle(2, coco=True), {}, "pyskl"),
    "pyskl 5": lambda: ("x.pkl", _pickle(5), {}, "pyskl"),
    "prepared": lambda: ("x.npz", _npz(**_prepared()), {}, "csta-fast"),
    "tar": lambda: ("x.tar", _tar(""), {}, "ntu60"),
    "tar.gz": lambda: ("x.tar.gz", _tar("gz"), {}, "ntu60"),
    "tar.xz": lambda: ("x.tar.xz", _tar("xz"), {}, "ntu60"),
    "zip": lambda: ("x.zip", _zip(), {}, "ntu60"),
}  # fmt: skip
_SPLICES = (
    b"",
    b"\0",
    b"\xff" * 8,
    b"nan",
    b"-1",
    b"9" * 400,
    b"\n",
    b"(" * 50,
    b"\x7f\xff\xff\xff",
)


def _damaged(held: bytes, draw: random.Random) -> bytes:
    """The file with bits turned, cut, bytes overwritten at its start, or something put into it."""
    changed = bytearray(held)
    for _ in range(draw.choice((1, 1, 2, 5))):
        at = draw.randrange(len(changed)) if draw.random() < 0.6 else draw.randrange(
            min(len(changed), 200))  # fmt: skip
        how = draw.randrange(6)
        if how < 2:
            changed[at] ^= 1 << draw.randrange(8)
        elif how == 2:
            changed[at] = draw.choice((0, 1, 127, 128, 255, draw.randrange(256)))
        elif how == 3:
            changed[at : at + draw.randrange(9)] = draw.choice(_SPLICES)
        elif how == 4:
            start = draw.randrange(len(changed))
            changed[at:at] = changed[start : start + draw.randrange(64)]
        else:
            del changed[at : at + draw.randrange(1, max(2, len(changed) - at))]
        if not changed:
            return bytes(changed)
    return bytes(changed)


@pytest.mark.filterwarnings("ignore:label. ")
@pytest.mark.parametrize("case", _CASES)
def test_damaged_files(case: str, tmp_path: Path) -> None:
    name, held, others, kind = _CASES[case]()
    folder = write(tmp_path / "data", {**others, name: held})
    path = folder / name
    read_from = folder if others else path
    assert read(read_from, kind, progress=False).recordings
    outcomes = {"read": 0, "refused": 0}
    for number in range(_TRIES):
        path.write_bytes(_damaged(held, random.Random(f"{case} {number}")))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found = read(read_from, kind, progress=False)
        except ValueError as error:
            message = str(error)
            if not (
                message.startswith("path: wanted ") and (str(folder) in message or name in message)
            ):
                pytest.fail(f"try {number}: {message}")
            outcomes["refused"] += 1
        except BaseException as error:
            raise AssertionError(f"try {number}: {error!r}") from error
        else:
            assert all(np.isfinite(each.positions).all() for each in found.recordings)
            outcomes["read"] += 1
    assert outcomes["refused"]


def test_one_damaged_file_is_one_entry(tmp_path: Path) -> None:
    """Of files of one recording each, the others are read whatever the damaged one holds."""
    for case in ("ntu", "msr", "uestc", "uestc packed mat", "nw-ucla"):
        name, held, _, kind = _CASES[case]()
        good = name.replace("P001", "P008").replace("s01", "s08").replace("p001", "p008")
        folder = write(tmp_path / case, {good: held})
        for number in range(_TRIES):
            (folder / name).write_bytes(_damaged(held, random.Random(f"one {case} {number}")))
            found = read(folder, kind, progress=False)
            assert len(found.recordings) + len(found.skipped) == 2, (case, number)
            assert list(found.skipped) in ([], [name])
