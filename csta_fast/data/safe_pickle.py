"""Pickles that can hold plain containers and numpy arrays, and can do nothing.

A pickle is a program: it names functions and calls them. Here the only names that it gets are
those below, and behind each stands a function of this module or a container. Arrays and their
dtypes are rebuilt here as well, for numpy's own ways trust what a pickle says of memory.
"""

from __future__ import annotations

import pickle
import re
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, Final, NoReturn

import numpy as np
from numpy.typing import NDArray

# Booleans, whole numbers, floating-point numbers and strings, with a size in bytes or characters.
_DTYPE = re.compile(r"[<>=|]?(b1|[iu][1248]|f[248]|[SU]\d+)")


class _RefusedError(Exception):
    """What a pickle holds that it may not."""


class Array:
    """An array that is being unpickled; ``value`` once it is complete."""

    __slots__ = ("value",)

    value: NDArray[Any]

    def __setstate__(self, state: tuple[int, tuple[int, ...], _DType, bool, bytes | str]) -> None:
        _, shape, dtype, by_columns, data = state
        self.value = _values(data, dtype, shape, "F" if by_columns else "C")


class _DType:
    """A dtype that is being unpickled: its kind and size come first, its byte order later."""

    __slots__ = ("value",)

    def __init__(self, code: str, *_: bool) -> None:
        if not (isinstance(code, str) and _DTYPE.fullmatch(code)):
            raise _RefusedError(f"an array of dtype {code!r}")
        self.value: np.dtype[Any] = np.dtype(code)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        order, *structure = state[1:5]
        if structure != [None, None, None]:
            raise _RefusedError("an array of structures")
        if order in ("<", ">"):
            self.value = self.value.newbyteorder(order)


def _values(
    data: bytes | bytearray | str, dtype: _DType, shape: tuple[int, ...], order: str
) -> NDArray[Any]:
    if isinstance(data, str):  # as Python 2 wrote bytes
        data = data.encode("latin1")
    if not (isinstance(data, (bytes, bytearray)) and isinstance(dtype, _DType)):
        raise _RefusedError(f"an array of {type(data).__name__}")
    values = np.frombuffer(data, dtype.value) if data else np.empty(0, dtype.value)
    return values.reshape(shape, order="F" if order == "F" else "C")


def _scalar(dtype: _DType, data: bytes | str) -> Any:
    return _values(data, dtype, (), "C").item()


def _from_buffer(
    data: bytes | bytearray,
    dtype: _DType,
    shape: tuple[int, ...],
    order: str,
    axes: tuple[int, ...] | None = None,
) -> Array:
    """With ``axes`` (numpy 2.3 and up), the shape is that in memory, and they put it in order."""
    array = Array()
    values = _values(data, dtype, shape, order)
    array.value = values if axes is None else values.transpose(axes)
    return array


def _bytes(text: str, encoding: str) -> bytes:
    """How protocols below 3 hold bytes."""
    if encoding not in ("latin1", "latin-1"):
        raise _RefusedError(f"bytes encoded as {encoding!r}")
    return text.encode("latin1")


class _Admitted:
    """Something a pickle may call, but not change."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *arguments: Any) -> Any:
        return self._function(*arguments)

    def __setstate__(self, _: object) -> NoReturn:
        raise _RefusedError("a change of a function")


_BUILTINS = ("__builtin__", "builtins")  # in protocols below 3, and from there
_CORES = ("numpy.core", "numpy._core")  # before numpy 2, and since
_ADMITTED: Final[dict[tuple[str, str], _Admitted]] = {
    **{(module, "set"): _Admitted(set) for module in _BUILTINS},
    **{(module, "frozenset"): _Admitted(frozenset) for module in _BUILTINS},
    **{(module, "bytes"): _Admitted(lambda: b"") for module in _BUILTINS},
    ("collections", "OrderedDict"): _Admitted(OrderedDict),
    ("_codecs", "encode"): _Admitted(_bytes),
    ("numpy", "dtype"): _Admitted(_DType),
    ("numpy", "ndarray"): _Admitted(lambda *_: Array()),
    **{(f"{core}.multiarray", "_reconstruct"): _Admitted(lambda *_: Array()) for core in _CORES},
    **{(f"{core}.multiarray", "scalar"): _Admitted(_scalar) for core in _CORES},
    **{(f"{core}.numeric", "_frombuffer"): _Admitted(_from_buffer) for core in _CORES},
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> _Admitted:
        found = _ADMITTED.get((module, name))
        if found is None:
            raise _RefusedError(f"a call of {module}.{name}")
        return found


def load(file: IO[bytes], path: Path) -> Any:
    """What a pickle holds; an array in it comes as ``Array``.

    Raises:
        ValueError: the file is damaged, or asks for more than containers and arrays of numbers
            or strings; nothing that it asks for has run then.
    """
    wanted = "path: wanted a pickle of plain containers and arrays of numbers"
    try:
        return _Unpickler(file, encoding="latin1").load()
    except _RefusedError as error:
        raise ValueError(f"{wanted}, got {path}, which holds {error}") from None
    except Exception as error:  # whatever the operations of a damaged pickle run into
        raise ValueError(f"{wanted}, got {path}, which is damaged ({error})") from error
