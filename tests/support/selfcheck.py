"""The contract over a compact list of cases, to be run in an interpreter of its own.

Prints "all right" when every case passes; see ``test_memory``.
"""

from __future__ import annotations

import torch
from backends import ALL_DTYPES, BACKENDS
from cases import CASES
from contract import check

_COMPACT = [case for case in CASES if torch.Size(case.shape).numel() <= 12_000]


def main() -> None:
    backend = next(each for each in BACKENDS if each.name == "cpu")
    for index, case in enumerate(_COMPACT):
        dtypes = (torch.float32, ALL_DTYPES[(0, 2, 3)[index % 3]])
        for dtype in dtypes:
            check(case, dtype, backend)
    print("all right")


if __name__ == "__main__":
    main()
