"""Mends Triton's interpreter where it is wrong, so that kernels can be tested without a GPU.

Seen in Triton 3.6: a scalar tensor cannot be a loop's bound under NumPy 2.4 and later, and bfloat16
is truncated where it should be rounded to nearest even.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import triton.language as tl
from triton.runtime import interpreter

_original_tensor_patch = interpreter._patch_lang_tensor
_original_cast = interpreter.InterpreterBuilder.cast_impl


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


def mend() -> None:
    interpreter._patch_lang_tensor = _patch_tensor
    interpreter.InterpreterBuilder.cast_impl = _cast
    np.seterr(divide="ignore", invalid="ignore", over="ignore")
