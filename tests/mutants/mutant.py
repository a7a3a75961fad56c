"""What a seeded bug is: a small edit that the test suite must notice."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Mutant:
    """One edit: ``old`` stands exactly once in ``file`` and becomes ``new``.

    In C++, both are statements that declare nothing (``old`` ends with a semicolon, ``new`` may
    be empty) or both are expressions of one type: all are compiled at once.
    """

    name: str
    file: str
    old: str
    new: str
    #: Where it shows: the test_*.py that runs first, or "file::name" for its tests of that name.
    tests: str = "contract"

    @property
    def in_library(self) -> bool:
        return self.file.startswith("csrc/")

    @property
    def in_cuda(self) -> bool:
        return self.file.startswith("csrc/cuda/")

    @property
    def in_triton(self) -> bool:
        return self.file.startswith("kernels/")
