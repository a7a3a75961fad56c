"""Mends Triton's interpreter where it is wrong or slow: kernels are tested on it without a GPU.

Seen in Triton 3.6: a scalar tensor cannot be a loop's bound under NumPy 2.4 and later, and bfloat16
is truncated where it should be rounded to nearest even. Seen in 3.9: a mask that went through an
addition or a choice is refused, since it is no longer of NumPy's bool. In both, half of the time
goes into replacing the language's functions anew at every call of a function, and into making the
same few types again and again.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import triton.language as tl
from triton.runtime import interpreter

_original_patch = interpreter._patch_lang
_original_tuple_type = tl.core._type_for_tuple_values
_original_numpy_type = interpreter._get_np_dtype
_original_tensor_patch = interpreter._patch_lang_tensor
_original_cast = interpreter.InterpreterBuilder.cast_impl
_original_load = interpreter.InterpreterBuilder.create_masked_load
_original_store = interpreter.InterpreterBuilder.create_masked_store


class _Replaced:
    """The language's functions as replaced for the sake of one function."""

    def __init__(self, scope: Any) -> None:
        self._scope = scope

    def restore(self) -> None:
        if self._scope is not None:
            self._scope.restore()
            _replaced.clear()


_replaced: set[frozenset[str]] = set()  # by the kernel that runs


@cache
def _languages(function: Any) -> frozenset[str]:
    """The modules that a function knows of those whose functions are replaced."""
    known = (value for value in function.__globals__.values() if value is tl or value is tl.core)
    return frozenset(each.__name__ for each in known)


def _patch(function: Any) -> _Replaced:
    """Once in a kernel: functions that know the same modules need no more than the first."""
    languages = _languages(function)
    if languages in _replaced:
        return _Replaced(None)
    _replaced.add(languages)
    return _Replaced(_original_patch(function))


_type_of_numbers = cache(_original_tuple_type)
_type_of_scalars = cache(_original_numpy_type)


def _tuple_type(values: Any, fields: Any = None) -> Any:
    """Most tuples are the shapes of tensors, of which there are few."""
    numbers = tuple(value.value if type(value) is tl.constexpr else value for value in values)
    if fields is None and all(type(number) is int for number in numbers):
        return _type_of_numbers(numbers)
    return _original_tuple_type(values, fields)


def _numpy_type(dtype: Any) -> Any:
    return _type_of_scalars(dtype) if type(dtype) is tl.dtype else _original_numpy_type(dtype)


def _patch_tensor(tensor: Any, scope: Any) -> None:
    _original_tensor_patch(tensor, scope)
    scope.set_attr(tensor, "__index__", lambda self: int(self.handle.data.item()))


def _cast(self: Any, source: Any, wanted: Any) -> Any:
    given, scalar = source.dtype.scalar, wanted.scalar
    if (given, scalar) == (tl.float32, tl.bfloat16):
        return interpreter.TensorHandle(_rounded(source.data), scalar)
    if (given, scalar) == (tl.bfloat16, tl.float32):
        bits = source.data.astype(np.uint32) << 16
        return interpreter.TensorHandle(bits.view(np.float32), scalar)
    return _original_cast(self, source, wanted)


def _rounded(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The bits of float32 values as bfloat16, to nearest even; NaN stays NaN."""
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    up = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    return np.where(np.isnan(values), 0x7FC0, up).astype(np.uint16)


def _as_mask(mask: Any) -> Any:
    return interpreter.TensorHandle(mask.data.astype(bool), tl.int1)


def _load(self: Any, place: Any, mask: Any, *rest: Any) -> Any:
    return _original_load(self, place, _as_mask(mask), *rest)


def _store(self: Any, place: Any, value: Any, mask: Any, *rest: Any) -> Any:
    return _original_store(self, place, value, _as_mask(mask), *rest)


def patch() -> None:
    builder = interpreter.InterpreterBuilder
    interpreter._patch_lang = _patch
    interpreter._get_np_dtype = _numpy_type
    tl.core._type_for_tuple_values = _tuple_type
    interpreter._patch_lang_tensor = _patch_tensor
    builder.cast_impl, builder.create_masked_load = _cast, _load
    builder.create_masked_store = _store
    np.seterr(divide="ignore", invalid="ignore", over="ignore")
