"""One damaged member of an archive is left out alone."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from skeletons import marked, ntu, read

_FIRST, _SECOND = "S001C001P001R001A001.skeleton", "S002C001P002R001A003.skeleton"
_THIRD = "S018C001P042R001A061.skeleton"
_TEXT = ntu([[(1, marked(25, 3))]])


def test_one_damaged_member_of_a_zip(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name in (_FIRST, _SECOND):
            archive.writestr(name, _TEXT)
    held = path.read_bytes()
    second = held.index(_SECOND.encode()) - 30
    listed = held.rindex(_SECOND.encode()) - 46
    for at, listed_at, value, reason in (
        (6, 8, 1, "encrypted"),
        (8, 10, 93, "compression method"),
        (40 + len(_SECOND), None, 0, "CRC"),
    ):
        damaged = bytearray(held)
        damaged[second + at] = value
        if listed_at is not None:
            damaged[listed + listed_at] = value
        path.write_bytes(damaged)
        found = read(path, "ntu60")
        assert [recording.name for recording in found.recordings] == [_FIRST[:20]]
        assert reason in found.skipped[_SECOND]


def _sparse(name: str, packed: int, offset: int, stored: int, size: int) -> bytes:
    """The header of a member whose one piece of data lies at an offset among zeros."""
    member = tarfile.TarInfo(name)
    member.type = tarfile.GNUTYPE_SPARSE
    member.size = packed
    header = bytearray(member.tobuf(tarfile.GNU_FORMAT))
    header[386:410] = b"%011o\0%011o\0" % (offset, stored)
    header[483:495] = b"%011o\0" % size
    header[148:156] = b"        "
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)


@pytest.mark.parametrize(
    ("offset", "stored", "size", "reason"),
    [
        (0, len(_TEXT), len(_TEXT), None),
        (len(_TEXT), len(_TEXT), 2 * len(_TEXT), "wanted a whole number in line 1"),  # zeros
        (0, 2**20, 2**20, "unexpected end of data"),  # beyond the end of the archive
        (0, len(_TEXT), 8**11 - 1, "wanted a file of up to 33554432 bytes, got 8589934591"),
    ],
)
def test_a_sparse_member_of_a_tar(
    tmp_path: Path, offset: int, stored: int, size: int, reason: str | None
) -> None:
    """It is read, or is the one that is left out."""
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w") as archive:
        for name in (_FIRST, _SECOND, _THIRD):
            member = tarfile.TarInfo(name)
            member.size = len(_TEXT)
            archive.addfile(member, io.BytesIO(_TEXT.encode()))
    held = bytearray(path.read_bytes())
    at = held.index(_SECOND.encode())
    held[at : at + 512] = _sparse(_SECOND, len(_TEXT), offset, stored, size)
    path.write_bytes(held)
    found = read(path, "ntu120")
    names = [name[:20] for name in (_FIRST, _SECOND, _THIRD) if name != _SECOND or reason is None]
    assert [recording.name for recording in found.recordings] == names
    for recording in found.recordings:
        np.testing.assert_array_equal(recording.positions[0, 0], marked(25, 3))
    assert list(found.skipped) == ([] if reason is None else [_SECOND])
    assert reason is None or reason in found.skipped[_SECOND]
