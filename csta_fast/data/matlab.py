"""Files of MATLAB 5 to 7.2 of strangers: unpacked within bounds, and only arrays of numbers kept.

SciPy makes room for whatever size a packed file claims, and goes into cells within cells until the
stack ends. So a file is unpacked here, and what SciPy is handed holds plain arrays only.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from csta_fast.data.files import reason

_HEADER = 128
_MATRIX, _PACKED = 14, 15  # types of elements
_FLAGS = 6  # type of the first element within a matrix, whose lowest byte is the class
_NUMBERS: Final = range(6, 16)  # classes: double, single, and whole numbers of 1 to 8 bytes
_COMPLEX = 0x0800


def arrays(file: bytes, names: list[str], most: int) -> dict[str, NDArray[Any]]:
    """The arrays of real numbers of these names.

    Args:
        file: as it lies on the disk.
        names: of variables.
        most: bytes that may be unpacked.

    Raises:
        ImportError: SciPy is not installed.
        ValueError: the file is damaged or larger, or was written by MATLAB 4 or 7.3.
    """
    try:
        from scipy.io import loadmat
    except ImportError as error:
        raise ImportError(
            "path: wanted SciPy for .mat files, which is not installed: "
            "pip install 'csta_fast[data]'"
        ) from error
    try:
        order = {b"IM": "<", b"MI": ">"}[file[_HEADER - 2 : _HEADER]]
        matrices = [each for each in _unpacked(file, order, most) if _is_plain(each, order)]
        plain = file[:_HEADER] + b"".join(matrices)
        held: dict[str, Any] = loadmat(io.BytesIO(plain), variable_names=names)
    except MemoryError:
        raise
    except Exception as error:  # SciPy raises many kinds for damaged files
        wanted = "wanted a file of MATLAB 5 to 7.2"
        raise ValueError(f"{wanted}, got a damaged one ({reason(error)})") from error
    return {name: held[name] for name in names if isinstance(held.get(name), np.ndarray)}


def _unpacked(file: bytes, order: str, most: int) -> Iterator[bytes]:
    """The elements of a file, each with its tag."""
    at, left = _HEADER, most
    while at < len(file):
        kind, size = struct.unpack_from(order + "II", file, at)
        if at + 8 + size > len(file):
            raise ValueError(f"it ends {at + 8 + size - len(file)} bytes too early")
        element = file[at : at + 8 + size]
        if kind == _PACKED:
            unpacker = zlib.decompressobj()
            element = unpacker.decompress(element[8:], left + 1)
            if len(element) > left:
                raise ValueError(f"wanted up to {most} bytes unpacked, got more")
            if not unpacker.eof:
                raise ValueError("what is packed in it is cut off")
        left -= len(element)
        yield element
        at += 8 + size


def _is_plain(element: bytes, order: str) -> bool:
    """Whether an element is an array of real numbers."""
    kind, _, first, _, flags = struct.unpack_from(order + "5I", element)
    return kind == _MATRIX and first == _FLAGS and flags & 0xFF in _NUMBERS and not flags & _COMPLEX
