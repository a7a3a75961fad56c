"""A mark for ``torch.compile``, which importing the package must not import."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

_Function = TypeVar("_Function", bound=Callable[..., Any])


def constant_to_the_compiler(function: _Function) -> _Function:
    """Mark as ``torch.compiler.assume_constant_result`` does, which would import the compiler.

    That takes as long as importing the rest of PyTorch.
    """
    vars(function)["_dynamo_marked_constant"] = True
    return function
