"""Arrays of numbers in files of MATLAB 5 to 7.2, read here because the files are strangers'.

SciPy makes room for whatever size a packed file claims, goes into cells within cells until the
stack ends, and has been seen to crash on single damaged bytes. What is wanted of these files is
plain arrays of real numbers, which take few lines.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

_HEADER = 128
_SIGNED, _MATRIX, _PACKED = 5, 14, 15  # types of elements
_NUMBERS: Final = range(6, 16)  # classes: double, single, and whole numbers of 1 to 8 bytes
_COMPLEX = 0x0800
# Types of elements that hold numbers.
_DTYPES: Final = {
    1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8",
}  # fmt: skip


def arrays(file: bytes, most: int) -> dict[str, NDArray[Any]]:
    """The arrays of real numbers by the names of their variables; what else there is, is passed.

    Args:
        file: as it lies on the disk.
        most: bytes that may be unpacked.

    Raises:
        ValueError: the file is damaged or larger, or was written by MATLAB 4 or 7.3.
    """
    order = {b"IM": "<", b"MI": ">"}.get(file[_HEADER - 2 : _HEADER])
    if order is None:
        raise ValueError("wanted a file of MATLAB 5 to 7.2, got another or a damaged one")
    try:
        found = [_array(held, order) for held in _unpacked(file, order, most)]
    except (struct.error, StopIteration, RuntimeError, zlib.error) as error:
        raise ValueError(
            f"wanted a file of MATLAB 5 to 7.2, got a damaged one ({error})"
        ) from error
    return dict(pair for pair in found if pair is not None)


def _elements(held: bytes, at: int, order: str) -> Iterator[tuple[int, bytes]]:
    """The elements that follow one another: the type of each and what it holds."""
    while at < len(held):
        kind, size = struct.unpack_from(order + "II", held, at)
        start = at + 8
        if kind >> 16:  # up to 4 bytes stand in the tag itself
            kind, size, start = kind & 0xFFFF, kind >> 16, at + 4
            at += 8
            if size > 4:
                raise ValueError(f"wanted a file of MATLAB, got a damaged one: {size} bytes of 4")
        else:
            # All but packed ones are filled up to multiples of 8 bytes.
            at = start + size + (-size % 8 if kind != _PACKED else 0)
        if start + size > len(held):
            missing = start + size - len(held)
            raise ValueError(f"wanted a file of MATLAB, got a damaged one: {missing} bytes less")
        yield kind, held[start : start + size]


def _unpacked(file: bytes, order: str, most: int) -> Iterator[bytes]:
    """The matrices of a file."""
    left = most
    for kind, held in _elements(file, _HEADER, order):
        if kind == _PACKED:
            unpacker = zlib.decompressobj()
            unpacked = unpacker.decompress(held, left + 1)
            if len(unpacked) > left:
                raise ValueError(f"wanted up to {most} bytes unpacked, got more")
            if not unpacker.eof:
                raise ValueError("wanted a file of MATLAB, got a damaged one: it is cut off")
            left -= len(unpacked)
            kind, held = next(_elements(unpacked, 0, order))
        if kind == _MATRIX:
            yield held


def _array(matrix: bytes, order: str) -> tuple[str, NDArray[Any]] | None:
    """The name and the values of a matrix; None of one that is no array of real numbers."""
    elements = _elements(matrix, 0, order)
    _, flags = next(elements)
    kind = struct.unpack_from(order + "I", flags)[0]
    if kind & 0xFF not in _NUMBERS or kind & _COMPLEX:
        return None
    (lengths_kind, lengths), (_, name), (values_kind, values) = (next(elements) for _ in range(3))
    if lengths_kind != _SIGNED or values_kind not in _DTYPES:
        raise ValueError("wanted a file of MATLAB, got a damaged one: its elements are odd")
    shape = np.frombuffer(lengths, order + "i4").tolist()
    found = np.frombuffer(values, order + _DTYPES[values_kind])
    if min(shape, default=-1) < 0 or math.prod(shape) != len(found):
        raise ValueError(f"wanted {shape} numbers, got {len(found)}: the file is damaged")
    return name.decode("latin1"), found.reshape(shape, order="F")
