"""Files that would take all memory, all time or the process are refused, with a message."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import resource
import signal
import struct
import tarfile
import traceback
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from skeletons import marked, msr_action3d, ntu, write

from csta_fast.data import Collection, Limits, read, safe_pickle

_MEMORY = 300 * 2**20  # bytes beyond what the process has
_SECONDS = 60
_NAME, _BAD = "S001C001P001R001A001.skeleton", "S001C001P002R001A001.skeleton"
_GOOD = ntu([[(1, marked(25, 3))]])


def _in_bounds(act: Callable[[], Any]) -> str:
    """What an action said, in a process of little memory and time: what it raised, or returned."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        signal.alarm(_SECONDS)
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * resource.getpagesize() + _MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        try:
            said = f"returned {act()}"
        except ValueError as error:
            said = f"ValueError: {error}"
        except BaseException:
            said = traceback.format_exc()
        os.write(writing, said[:4000].encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        said = pipe.read().decode()
    _, status = os.waitpid(child, 0)
    assert status == 0, f"it was ended by signal {os.WTERMSIG(status)}"
    return said


def _skipped(path: Path, kind: str | None = None) -> str:
    """What was skipped, beside what was read."""
    found: Collection = read(path, kind, progress=False)
    return f"{len(found.recordings)} and {sorted(found.skipped.items())}"


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
    said = _in_bounds(lambda: _skipped(path))
    assert said.startswith("returned 1 and [('bad0', 'wanted a label below 10000, got ")
    assert "CSTA_FAST_LIMITS=classes=" in said
    folder = tmp_path / "st_gcn"
    folder.mkdir()
    np.save(folder / "train_data.npy", marked(2, 3, 2, 25, 2))
    (folder / "train_label.pkl").write_bytes(pickle.dumps((["a", "b"], [0, label])))
    assert "[('b', 'wanted a label below 10000" in _in_bounds(lambda: _skipped(folder))


def test_one_hot_labels(tmp_path: Path) -> None:
    labels = np.zeros((1, 20_000), np.uint8)
    labels[0, 3] = 1
    x = marked(1, 2, 150)
    np.savez(tmp_path / "x.npz", x_train=x, x_test=x, y_train=labels, y_test=labels)
    assert "got 20000 (limit classes=10000" in _in_bounds(lambda: _skipped(tmp_path / "x.npz"))
    found = read(tmp_path / "x.npz", progress=False, limits=Limits(classes=30_000))
    assert len(found.classes) == 20_000


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
    assert _in_bounds(lambda: _skipped(path)).startswith("returned 1 and [(")


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
    said = _in_bounds(lambda: read(path, progress=False))
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
    said = _in_bounds(lambda: safe_pickle.load(io.BytesIO(held), Path("x.pkl")))
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
    said = _in_bounds(lambda: len(read(path, progress=False).skipped))
    assert said.startswith("returned ")
    assert int(said.split()[1]) > 300


class _Zeros(io.RawIOBase):
    """Zeros, as many as are said."""

    def __init__(self, left: int) -> None:
        self.left = left

    def read(self, size: int = -1) -> bytes:
        size = self.left if size < 0 else min(size, self.left)
        self.left -= size
        return bytes(size)


_BOMB = 2**29


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_zip(tmp_path: Path, method: int) -> None:
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr(_NAME, _GOOD)
        archive.writestr(_BAD, bytes(_BOMB // 8 + 0x12345))
        size = archive.getinfo(_BAD).file_size
    said = _in_bounds(lambda: _skipped(path))
    assert said.startswith(
        f"returned 1 and [('{_BAD}', 'wanted a file of up to 33554432 bytes, got"
    )
    assert "limit recording_bytes=33554432" in said
    # A file that says that it is small.
    held = path.read_bytes().replace(struct.pack("<I", size), struct.pack("<I", 1000))
    path.write_bytes(held)
    assert _in_bounds(lambda: _skipped(path)).startswith(f"returned 1 and [('{_BAD}', ")


def test_zip_of_files_in_one_another(tmp_path: Path) -> None:
    """Each is within bounds; together they are not."""
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(_NAME, bytes(2**24))
        (info,) = archive.infolist()
        for number in range(2, 33):
            name = f"S001C001P{number:03}R001A001.skeleton"
            other = zipfile.ZipInfo(name)
            for key in ("compress_type", "CRC", "compress_size", "file_size", "header_offset"):
                setattr(other, key, getattr(info, key))
            archive.filelist.append(other)
    # zipfile compares the name at the header with that of the directory; others do not.
    said = _in_bounds(lambda: _skipped(path))
    assert said.startswith("ValueError: path: wanted ")


@pytest.mark.parametrize("form", ["gz", "xz", "bz2"])
def test_tar(tmp_path: Path, form: str) -> None:
    path = tmp_path / f"x.tar.{form}"
    with tarfile.open(path, f"w:{form}") as archive:  # type: ignore[call-overload]
        for name, held in ((_NAME, io.BytesIO(_GOOD.encode())), (_BAD, _Zeros(_BOMB // 8))):
            member = tarfile.TarInfo(name)
            member.size = len(_GOOD) if name == _NAME else _BOMB // 8
            archive.addfile(member, held)
    said = _in_bounds(lambda: _skipped(path))
    assert said.startswith("ValueError: path: wanted an archive of a data set, got ")
    assert "limit growth" in said
    large = Limits(growth=10**6)
    said = _in_bounds(lambda: sorted(read(path, progress=False, limits=large).skipped.values()))
    assert said.startswith("returned ['wanted a file of up to 33554432 bytes, got 67108864")


def test_a_header_of_a_tar(tmp_path: Path) -> None:
    """Headers are read whole, however long they are said to be."""
    member = tarfile.TarInfo("././@PaxHeader")
    member.type, member.size = tarfile.XHDTYPE, _BOMB
    path = tmp_path / "x.tar.gz"
    with gzip.open(path, "wb", 1) as file:
        file.write(member.tobuf())
        for _ in range(_BOMB // 2**20):
            file.write(bytes(2**20))
    said = _in_bounds(lambda: _skipped(path, "ntu60"))
    assert "wanted a header of up to 1048576 bytes, got 536870912" in said


@pytest.mark.parametrize("kind", ["csta-fast", "ctr-gcn"])
def test_npz(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x.npz"
    large = "text" if kind == "csta-fast" else "y_train"
    np.savez_compressed(
        path,
        **{large: np.zeros(5 * 2**26, np.uint8)},
        csta_fast=np.array(1),
        x_train=np.zeros((1, 1)),
    )
    said = _in_bounds(lambda: _skipped(path, kind))
    assert said.startswith("ValueError: path: wanted ")
    assert "(limit growth=100;" in said


def test_an_array_that_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez(path, y_train=np.zeros((1, 60)), y_test=np.zeros((1, 60)), x_train=np.zeros((1, 1)))
    held = path.read_bytes().replace(b"(1, 60)", b"(9**9,)").replace(b"(9**9,)", b"(2, 60)")
    path.write_bytes(held)
    assert _in_bounds(lambda: _skipped(path)).startswith("ValueError: path: wanted ")
    for shape in ("(99999999999, 60)", "(1, 99999999999)", "(0, 99999999999999999999)"):
        header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}"
        npy = b"\x93NUMPY\x01\x00v\x00" + header.ljust(117).encode() + b"\n"
        with zipfile.ZipFile(path, "w") as archive:
            for key in ("x_train", "y_train", "y_test", "x_test"):
                archive.writestr(f"{key}.npy", npy)
        assert _in_bounds(lambda: _skipped(path)).startswith("ValueError: path: wanted ")


def test_rows_that_are_too_large(tmp_path: Path) -> None:
    with (tmp_path / "train_data.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(
            file, {"descr": "<f4", "fortran_order": False, "shape": (1, 3, 10**9, 25, 2)}
        )
        file.truncate(10**12)
    (tmp_path / "train_label.pkl").write_bytes(pickle.dumps((["a"], [0])))
    said = _in_bounds(lambda: _skipped(tmp_path))
    assert "wanted rows of up to 33554432 bytes in train_data.npy" in said


def _mat(*elements: bytes) -> bytes:
    return b"MATLAB 5.0".ljust(124) + b"\x00\x01IM" + b"".join(elements)


def _element(kind: int, held: bytes) -> bytes:
    return struct.pack("<II", kind, len(held)) + held


def test_matlab(tmp_path: Path) -> None:
    pytest.importorskip("scipy")
    matlab = pytest.importorskip("scipy.io")
    good = io.BytesIO()
    matlab.savemat(good, {"v": marked(2, 75)}, do_compression=True)
    large = io.BytesIO()
    matlab.savemat(large, {"v": np.zeros((2 * 10**5, 75), np.float32)}, do_compression=True)
    flags = _element(6, struct.pack("<II", 1, 0)) + _element(5, struct.pack("<ii", 1, 1))
    cells = b""
    for _ in range(20_000):  # each within the next
        cells = _element(14, flags + _element(1, b"v" + bytes(7)) + cells)
        if len(cells) > 2**20:
            break
    claims = struct.pack("<II", 14, 2**31 - 8) + flags
    files = {
        "a1_d1_p001_c1_skeleton.mat": good.getvalue(),
        "a1_d1_p002_c1_skeleton.mat": large.getvalue(),
        "a1_d1_p003_c1_skeleton.mat": _mat(cells),
        "a1_d1_p004_c1_skeleton.mat": _mat(_element(15, zlib.compress(claims))),
        "a1_d1_p005_c1_skeleton.mat": _mat(_element(15, zlib.compress(claims)[:-9])),
    }
    said = _in_bounds(lambda: _skipped(write(tmp_path, files)))
    assert said.startswith("returned 1 and ")
    for reason in ("up to 33554432 bytes unpacked", "none", "bytes less", "is cut off"):
        assert reason in said


def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    write(tmp_path, {_NAME: _GOOD})
    os.mkfifo(tmp_path / _BAD)
    (tmp_path / "S001C001P003R001A001.skeleton").symlink_to("/dev/zero")
    (tmp_path / "S001C001P004R001A001.skeleton").mkdir()
    (tmp_path / "S001C001P005R001A001.skeleton").symlink_to(tmp_path)
    with (tmp_path / "S001C001P006R001A001.skeleton").open("wb") as file:
        file.truncate(10**12)
    said = _in_bounds(lambda: _skipped(tmp_path))
    assert said.startswith("returned 1 and ")
    assert "P002R001A001.skeleton, which is a pipe" in said
    assert "P003R001A001.skeleton, which is a device" in said
    assert "up to 33554432 bytes, got more than" in said
    for name in ("x.pkl", "x.npz", "x.tar", "x.zip", "x.skeleton", "x"):
        for path, what in (
            (tmp_path / "pipe" / name, "pipe"),
            (tmp_path / "zero" / name, "device"),
        ):
            path.parent.mkdir(exist_ok=True)
            if what == "pipe":
                os.mkfifo(path)
            else:
                path.symlink_to("/dev/zero")
            said = _in_bounds(lambda path=path: read(path, progress=False))
            assert (
                said
                == f"ValueError: path: wanted a folder or a file, got {path}, which is a {what}"
            )
    for name, kind in (("x.pkl", "pyskl"), ("x.npz", "csta-fast")):
        folder = tmp_path / "in" / name
        folder.mkdir(parents=True)
        os.mkfifo(folder / name)
        assert "which is a pipe" in _in_bounds(
            lambda folder=folder, kind=kind: _skipped(folder, kind)
        )


def test_too_many_files(tmp_path: Path) -> None:
    path = write(tmp_path / "x", {f"a01_s{n:02}_e01_skeleton3D.txt": "" for n in range(1, 11)})
    with pytest.raises(ValueError, match=r"wanted up to 9 files, got 10 \(limit files=9; CSTA"):
        read(path, limits=Limits(files=9))


def test_limits_can_be_raised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = msr_action3d(marked(1, 20, 3))
    write(tmp_path, {"a01_s01_e01_skeleton3D.txt": text})
    monkeypatch.setenv("CSTA_FAST_LIMITS", "recording_bytes=100")
    with pytest.raises(ValueError, match=r"all 1 were skipped; .*up to 100 bytes"):
        read(tmp_path)
    monkeypatch.setenv("CSTA_FAST_LIMITS", f" recording_bytes={len(text)}, classes=3,")
    assert len(read(tmp_path).recordings) == 1
    assert len(read(tmp_path, limits=Limits()).recordings) == 1
    for wrong in ("recordings=3", "classes", "classes=many", "classes=-1", "classes=" + "9" * 30):
        monkeypatch.setenv("CSTA_FAST_LIMITS", wrong)
        with pytest.raises(ValueError, match="CSTA_FAST_LIMITS: wanted NAME=NUMBER, NAME one of"):
            read(tmp_path)
    with pytest.raises(ValueError, match="growth: wanted a whole number of 1 or more, got 0"):
        Limits(growth=0)
