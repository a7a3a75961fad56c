"""Files that would take all memory, all time or the process are refused, with a message."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from bounded import in_bounds, skipped
from skeletons import marked, msr_action3d, ntu, write

from csta_fast.data import Limits, read

_NAME, _BAD = "S001C001P001R001A001.skeleton", "S001C001P002R001A001.skeleton"
_GOOD = ntu([[(1, marked(25, 3))]])


def test_one_hot_labels(tmp_path: Path) -> None:
    labels = np.zeros((1, 20_000), np.uint8)
    labels[0, 3] = 1
    x = marked(1, 2, 150)
    np.savez(tmp_path / "x.npz", x_train=x, x_test=x, y_train=labels, y_test=labels)
    assert "got 20000 (limit classes=10000" in in_bounds(lambda: skipped(tmp_path / "x.npz"))
    found = read(tmp_path / "x.npz", progress=False, limits=Limits(classes=30_000))
    assert len(found.classes) == 20_000


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
    said = in_bounds(lambda: skipped(path))
    assert said.startswith(
        f"returned 1 and [('{_BAD}', 'wanted a file of up to 33554432 bytes, got"
    )
    assert "limit recording_bytes=33554432" in said
    # A file that says that it is small.
    held = path.read_bytes().replace(struct.pack("<I", size), struct.pack("<I", 1000))
    path.write_bytes(held)
    assert in_bounds(lambda: skipped(path)).startswith(f"returned 1 and [('{_BAD}', ")


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
    said = in_bounds(lambda: skipped(path))
    assert said.startswith("ValueError: path: wanted ")


@pytest.mark.parametrize("form", ["gz", "xz", "bz2"])
def test_tar(tmp_path: Path, form: str) -> None:
    path = tmp_path / f"x.tar.{form}"
    with tarfile.open(path, f"w:{form}") as archive:  # type: ignore[call-overload]
        for name, held in ((_NAME, io.BytesIO(_GOOD.encode())), (_BAD, _Zeros(_BOMB // 8))):
            member = tarfile.TarInfo(name)
            member.size = len(_GOOD) if name == _NAME else _BOMB // 8
            archive.addfile(member, held)
    said = in_bounds(lambda: skipped(path))
    assert said.startswith("ValueError: path: wanted an archive of a data set, got ")
    assert "limit growth" in said
    large = Limits(growth=10**6)
    said = in_bounds(lambda: sorted(read(path, progress=False, limits=large).skipped.values()))
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
    said = in_bounds(lambda: skipped(path, "ntu60"))
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
    said = in_bounds(lambda: skipped(path, kind))
    assert said.startswith("ValueError: path: wanted ")
    assert "(limit growth=100;" in said


def test_an_array_that_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez(path, y_train=np.zeros((1, 60)), y_test=np.zeros((1, 60)), x_train=np.zeros((1, 1)))
    held = path.read_bytes().replace(b"(1, 60)", b"(9**9,)").replace(b"(9**9,)", b"(2, 60)")
    path.write_bytes(held)
    assert in_bounds(lambda: skipped(path)).startswith("ValueError: path: wanted ")
    for shape in ("(99999999999, 60)", "(1, 99999999999)", "(0, 99999999999999999999)"):
        header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}"
        npy = b"\x93NUMPY\x01\x00v\x00" + header.ljust(117).encode() + b"\n"
        with zipfile.ZipFile(path, "w") as archive:
            for key in ("x_train", "y_train", "y_test", "x_test"):
                archive.writestr(f"{key}.npy", npy)
        assert in_bounds(lambda: skipped(path)).startswith("ValueError: path: wanted ")


def test_rows_that_are_too_large(tmp_path: Path) -> None:
    with (tmp_path / "train_data.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(
            file, {"descr": "<f4", "fortran_order": False, "shape": (1, 3, 10**9, 25, 2)}
        )
        file.truncate(10**12)
    (tmp_path / "train_label.pkl").write_bytes(pickle.dumps((["a"], [0])))
    said = in_bounds(lambda: skipped(tmp_path))
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
    said = in_bounds(lambda: skipped(write(tmp_path, files)))
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
    said = in_bounds(lambda: skipped(tmp_path))
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
            said = in_bounds(lambda path=path: read(path, progress=False))
            assert (
                said
                == f"ValueError: path: wanted a folder or a file, got {path}, which is a {what}"
            )
    for name, kind in (("x.pkl", "pyskl"), ("x.npz", "csta-fast")):
        folder = tmp_path / "in" / name
        folder.mkdir(parents=True)
        os.mkfifo(folder / name)
        assert "which is a pipe" in in_bounds(
            lambda folder=folder, kind=kind: skipped(folder, kind)
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
