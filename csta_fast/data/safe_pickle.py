"""Pickles that can hold plain containers and numpy arrays, and can do nothing.

A pickle is a program: it names functions and calls them. Here the only names that it gets are
those below, and behind each stands a function of this module or a container. Arrays and their
dtypes are rebuilt here as well, for numpy's own ways trust what a pickle says of memory. Before
that, ``pickle_scan`` has looked whether it stays in bounds.
"""

from __future__ import annotations

import mmap
import pickle
import re
from collections import OrderedDict
from collections.abc import Callable, Sized
from pathlib import Path
from typing import IO, Any, Final, NoReturn

import numpy as np
from numpy.typing import NDArray

from csta_fast.data import pickle_scan
from csta_fast.data.files import reason
from csta_fast.data.limits import LimitError, Limits

# Booleans, whole numbers, floating-point numbers and strings, with a size in bytes or characters.
_DTYPE = re.compile(r"[<>=|]?(b1|[iu][1248]|f[248]|[SU]\d{1,6})")


class _RefusedError(Exception):
    """What a pickle holds that it may not."""


class _Allowance:
    """How much calls may still make: a pickle can hand the same text or list to many of them."""

    def __init__(self, left: int) -> None:
        self.left = left

    def charge(self, arguments: tuple[Any, ...]) -> None:
        self.left -= sum(len(each) for each in arguments if isinstance(each, Sized))
        if self.left < 0:
            raise _RefusedError("more copies of its parts than it may (limit growth)")


class Array:
    """An array that is being unpickled; ``value`` once it is complete."""

    __slots__ = ("_allowance", "value")

    value: NDArray[Any]

    def __init__(self, allowance: _Allowance) -> None:
        self._allowance = allowance

    def __setstate__(self, state: tuple[int, tuple[int, ...], _DType, bool, bytes | str]) -> None:
        _, shape, dtype, by_columns, data = state
        if isinstance(data, str):
            self._allowance.charge((data,))
        self.value = _values(data, dtype, shape, "F" if by_columns else "C")


def array(value: Any) -> NDArray[Any] | None:
    """The array that a pickle holds somewhere, or None where it holds something else."""
    return getattr(value, "value", None) if isinstance(value, Array) else None


def listed(value: Any) -> Any:
    """A list of plain values where a pickle holds an array of one dimension; else as it is."""
    found = array(value)
    return found.tolist() if found is not None and found.ndim == 1 else value


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


def _bytes(text: str, encoding: str) -> bytes:
    """How protocols below 3 hold bytes."""
    if encoding not in ("latin1", "latin-1"):
        raise _RefusedError(f"bytes encoded as {encoding!r}")
    return text.encode("latin1")


class _Admitted:
    """Something a pickle may call, but not change."""

    __slots__ = ("_allowance", "_function")

    def __init__(self, function: Callable[..., Any], allowance: _Allowance) -> None:
        self._function, self._allowance = function, allowance

    def __call__(self, *arguments: Any) -> Any:
        self._allowance.charge(arguments)
        return self._function(*arguments)

    def __setstate__(self, _: object) -> NoReturn:
        raise _RefusedError("a change of a function")


_BUILTINS = ("__builtin__", "builtins")  # in protocols below 3, and from there
_CORES = ("numpy.core", "numpy._core")  # before numpy 2, and since


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: Any, allowance: _Allowance) -> None:
        super().__init__(file, encoding="latin1")
        self._allowance = allowance
        self._functions: Final[dict[tuple[str, str], Callable[..., Any]]] = {
            **{(module, "set"): set for module in _BUILTINS},
            **{(module, "frozenset"): frozenset for module in _BUILTINS},
            **{(module, "bytes"): lambda: b"" for module in _BUILTINS},
            ("collections", "OrderedDict"): OrderedDict,
            ("_codecs", "encode"): _bytes,
            ("numpy", "dtype"): _DType,
            ("numpy", "ndarray"): self._array,
            **{(f"{core}.multiarray", "_reconstruct"): self._array for core in _CORES},
            **{(f"{core}.multiarray", "scalar"): _scalar for core in _CORES},
            **{(f"{core}.numeric", "_frombuffer"): self._from_buffer for core in _CORES},
        }

    def find_class(self, module: str, name: str) -> _Admitted:
        function = self._functions.get((module, name))
        if function is None:
            raise _RefusedError(f"a call of {module[:100]}.{name[:100]}")
        return _Admitted(function, self._allowance)

    def _array(self, *_: object) -> Array:
        return Array(self._allowance)

    def _from_buffer(
        self,
        data: bytes | bytearray,
        dtype: _DType,
        shape: tuple[int, ...],
        order: str,
        axes: tuple[int, ...] | None = None,
    ) -> Array:
        """With ``axes`` (numpy 2.3 and up), the shape is that in memory, and they order it."""
        array = self._array()
        values = _values(data, dtype, shape, order)
        array.value = values if axes is None else values.transpose(axes)
        return array


def load(file: IO[bytes], path: Path, limits: Limits | None = None) -> Any:
    """What a pickle holds; an array in it comes as ``Array``.

    Raises:
        ValueError: the file is damaged, is over a limit, or asks for more than containers and
            arrays of numbers or strings; nothing that it asks for has run then.
    """
    limits = limits or Limits.from_environment()
    wanted = "path: wanted a pickle of plain containers and arrays of numbers"
    try:
        data = _mapped(file)
        pickle_scan.check(data, limits)
        allowance = _Allowance(limits.unpacked(len(data)))
        file.seek(0)
        return _Unpickler(file, allowance).load()
    except MemoryError:
        raise
    except LimitError as error:
        raise ValueError(f"{wanted}, got {path}: {error}") from None
    except _RefusedError as error:
        raise ValueError(f"{wanted}, got {path}, which holds {error}") from None
    except Exception as error:  # whatever the operations of a damaged pickle run into
        raise ValueError(f"{wanted}, got {path}, which is damaged ({reason(error)})") from error


def _mapped(file: IO[bytes]) -> pickle_scan.Data:
    """All of a file, which may be larger than what of memory is free."""
    try:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError):  # it is in memory, or empty
        return file.read()
