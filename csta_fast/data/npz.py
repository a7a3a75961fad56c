"""Archives of arrays (.npz) of any size: looked into without reading, and read row by row."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from csta_fast.data import unzip
from csta_fast.data.files import Source, reason
from csta_fast.data.limits import Limits

_SUFFIX = ".npy"


@contextmanager
def opened(source: Source, name: str, wanted: str) -> Iterator[zipfile.ZipFile]:
    """An archive of arrays among the files of a source.

    Raises:
        ValueError: it is damaged, holds more than the limits allow, or what is done with it finds
            something amiss.
    """
    with said_of(source, wanted), source.open(name) as file, zipfile.ZipFile(file) as archive:
        held = sum(info.file_size for info in archive.infolist())
        allowed = source.limits.unpacked(source.size(name))
        if held > allowed:
            raise source.limits.refuse("growth", f"up to {allowed} bytes unpacked", f"{held}")
        yield archive


@contextmanager
def said_of(source: Source, wanted: str) -> Iterator[None]:
    """Say of any error to which file it belongs.

    Raises:
        ValueError: what is done raised something.
    """
    try:
        yield
    except (ImportError, MemoryError):  # no fault of the file's
        raise
    except Exception as error:
        why = reason(error)
        if isinstance(error, KeyError) and error.args:  # an array that is not there
            why = str(error.args[0])
        raise ValueError(f"path: wanted {wanted}, got {source.path}: {why}") from error


def holds(source: Source, key: str) -> bool:
    """Whether the files of a source are one archive of arrays with such a key."""
    names = [name for name in source.names if name.endswith(".npz")]
    if len(names) != 1:
        return False
    try:
        with source.open(names[0]) as file, zipfile.ZipFile(file) as archive:
            return key + _SUFFIX in archive.namelist()
    except MemoryError:
        raise
    except Exception:  # a damaged archive
        return False


def array(archive: zipfile.ZipFile, key: str) -> NDArray[Any]:
    """An array of numbers; arrays of objects are refused."""
    info = archive.getinfo(key + _SUFFIX)
    with archive.open(info) as file:
        shape, by_columns, dtype = _header(file, key)
        size = math.prod(shape) * dtype.itemsize
        if size > info.file_size:  # before there is room for it
            raise ValueError(f"{key} ends before its {size} bytes")
        held = np.empty(size, np.uint8)
        filled = _filled(file, held.data, unzip.step(info))
        # One more is asked for, so that what was read is compared with its checksum.
        if filled != size or file.read(1):
            got = "more" if filled == size else f"{filled}"
            raise ValueError(f"wanted {key} of {size} bytes, got {got}")
    return held.view(dtype).reshape(shape, order="F" if by_columns else "C")


def _filled(file: IO[bytes], room: memoryview, step: int) -> int:
    """How many bytes of a file there were to fill the room with."""
    at = 0
    while at < len(room) and (part := file.read(min(step, len(room) - at))):
        room[at : at + len(part)] = part
        at += len(part)
    return at


def rows(archive: zipfile.ZipFile, key: str, count: int, limits: Limits) -> Iterator[NDArray[Any]]:
    """The rows of an array of numbers, one after another, so that only one is in memory."""
    info = archive.getinfo(key + _SUFFIX)
    with archive.open(info) as file:
        yield from rows_of(file, key, count, limits, unzip.step(info))


def rows_of(
    file: IO[bytes], what: str, count: int, limits: Limits, step: int = 2**20
) -> Iterator[NDArray[Any]]:
    """The rows of an .npy file, likewise.

    Raises:
        ValueError: it holds no rows of numbers, or not so many, or too large ones, or is cut off.
    """
    found, by_columns, dtype = _header(file, what)
    if by_columns or not found:
        raise ValueError(f"wanted {what} as rows of numbers, got {dtype} of shape {found}")
    if found[0] != count:
        raise ValueError(f"{what} has {found[0]} rows for {count} labels")
    size = math.prod(found[1:]) * dtype.itemsize
    if size > limits.recording_bytes:
        raise limits.refuse(
            "recording_bytes", f"rows of up to {limits.recording_bytes} bytes in {what}", f"{size}"
        )
    for row in range(count):
        data = bytearray(size)
        if _filled(file, memoryview(data), step) != size:
            raise ValueError(f"{what} ends within row {row} of {count}")
        yield np.frombuffer(data, dtype).reshape(found[1:])


def _header(file: IO[bytes], key: str) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    first = npy.read_magic(file) == (1, 0)
    read = npy.read_array_header_1_0 if first else npy.read_array_header_2_0
    try:
        found, by_columns, dtype = read(file)
    except MemoryError as error:  # of the parser: a header is short
        raise ValueError(f"the header of {key} is damaged") from error
    if dtype.hasobject or dtype.kind not in "fiu" or any(length < 0 for length in found):
        objects = ": Object arrays cannot be loaded" if dtype.hasobject else ""
        raise ValueError(f"wanted {key} as rows of numbers, got {dtype} of shape {found}{objects}")
    return found, by_columns, dtype
