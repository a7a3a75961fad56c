"""Archives of arrays (.npz) of any size: looked into without reading, and read row by row."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from csta_fast.data.files import Source

_SUFFIX = ".npy"


@contextmanager
def opened(source: Source, name: str, wanted: str) -> Iterator[zipfile.ZipFile]:
    """An archive of arrays among the files of a source.

    Raises:
        ValueError: it is damaged, or what is done with it finds something amiss.
    """
    try:
        with source.open(name) as file, zipfile.ZipFile(file) as archive:
            yield archive
    except (ValueError, zipfile.BadZipFile, zlib.error, EOFError, KeyError) as error:
        reason = error.args[0] if error.args else error
        raise ValueError(f"path: wanted {wanted}, got {source.path}: {reason}") from error


def holds(source: Source, key: str) -> bool:
    """Whether the files of a source are one archive of arrays with such a key."""
    names = [name for name in source.names if name.endswith(".npz")]
    try:
        with source.open(names[0]) as file, zipfile.ZipFile(file) as archive:
            return len(names) == 1 and key + _SUFFIX in archive.namelist()
    except (IndexError, zipfile.BadZipFile):
        return False


def array(archive: zipfile.ZipFile, key: str) -> NDArray[Any]:
    """An array of numbers; arrays of objects are refused."""
    with archive.open(key + _SUFFIX) as file:
        found: NDArray[Any] = npy.read_array(file, allow_pickle=False)
    return found


def rows(archive: zipfile.ZipFile, key: str, count: int) -> Iterator[NDArray[Any]]:
    """The rows of an array of numbers, one after another, so that only one is in memory."""
    with archive.open(key + _SUFFIX) as file:
        yield from rows_of(file, key, count)


def rows_of(file: IO[bytes], what: str, count: int) -> Iterator[NDArray[Any]]:
    """The rows of an .npy file, likewise.

    Raises:
        ValueError: it holds no rows of numbers, or not so many, or is cut off.
    """
    found, dtype = _header(file, what)
    if found[0] != count:
        raise ValueError(f"{what} has {found[0]} rows for {count} labels")
    size = int(np.prod(found[1:])) * dtype.itemsize
    for row in range(count):
        data = file.read(size)
        if len(data) != size:
            raise ValueError(f"{what} ends within row {row} of {count}")
        yield np.frombuffer(data, dtype).reshape(found[1:])


def _header(file: IO[bytes], key: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    first = npy.read_magic(file) == (1, 0)
    read = npy.read_array_header_1_0 if first else npy.read_array_header_2_0
    found, by_columns, dtype = read(file)
    if by_columns or dtype.hasobject or dtype.kind not in "fiu" or not found:
        raise ValueError(f"wanted {key} as rows of numbers, got {dtype} of shape {found}")
    return found, dtype
