"""Counts the instructions that the CUDA kernels' inner loops have for an element of x.

In machine code as nvdisasm prints it. A loop is known by what it loads and stores; an element that
several threads share, or none, is in no inner loop and not counted.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

#: Types by their names among the kernels' symbols, and how many elements are in 16 bytes.
_LANES = {"float32": ("_kernelIfE", 4), "bfloat16": ("_kernelINS0_8BFloat16E", 8)}

_LABEL = re.compile(r"(\.L_\w+):")
_INSTRUCTION = re.compile(r"\s+/\*[0-9a-f]+\*/\s+(.*?)\s*;")
_BRANCH = re.compile(r"\bBRA\b.*`\((\.L_\w+)\)")


class Loop(NamedTuple):
    """An inner loop: so many instructions in all, and of each kind."""

    size: int
    kinds: Counter[str]


class _Counted(NamedTuple):
    """What is counted: loops with these kinds, in which a kind stands for so many elements."""

    kernel: str  # the file's name
    kinds: dict[str, int]  # so many of each kind; a kind may be the beginning of several
    by: tuple[str, int]  # 16 bytes of elements are so many of this kind; or of 8 terms, one each
    often: int = 1  # an element is in such a loop

    def per_element(self, code: dict[str, list[Loop]], lanes: int) -> float:
        kind, number = self.by
        counts = [
            loop.size / (sum(n for each, n in loop.kinds.items() if each.startswith(kind)) / number)
            for loop in code[self.kernel]
            if self._is(loop)
        ]
        if not counts:
            raise SystemExit(f"no loop of the {self.kernel} kernel has {self.kinds}")
        return self.often * min(counts) / (1 if kind == "LDS" else lanes)

    def _is(self, loop: Loop) -> bool:
        found = {
            begin: sum(n for kind, n in loop.kinds.items() if kind.startswith(begin))
            for begin in self.kinds
        }
        return all(
            number == self.kinds[begin] or (self.kinds[begin] == _SOME and number > 0)
            for begin, number in found.items()
        )


_FORWARD, _BACKWARD = "dense/dense_forward", "dense/dense_backward"
_SOME = -1
_TERM = {"LDS": 8, "FADD": 8, "LD.": 0, "STG": 0}  # a load, and an addition to the others
_WRITTEN = {"LDS.128": _SOME, "STG.E.128": _SOME}
_COUNTED = {
    "means": _Counted(_FORWARD, _TERM, ("LDS", 1), often=2),  # of its frame, of its joint
    "y": _Counted(_FORWARD, _WRITTEN, ("STG.E.128", 1)),
    "grad_y times x": _Counted(_BACKWARD, {"LDS.128": _SOME, "STG": 0, "FFMA": _SOME,
                                              "LDG": 0, "STS": 0}, ("LDS.128", 2)),
    "grad_x": _Counted(_BACKWARD, {**_WRITTEN, "FADD": _SOME}, ("STG.E.128", 1)),
}  # fmt: skip


def kernels(printed: str) -> Iterator[tuple[str, list[str]]]:
    """The functions of a file that nvdisasm printed, by their symbols."""
    for part in printed.split("\t.section\t.text.")[1:]:
        yield part.partition(",")[0], part.splitlines()


def _kind(instruction: str) -> str:
    return re.sub(r"^@\S+\s+", "", instruction).split()[0]


def inner_loops(lines: list[str]) -> list[Loop]:
    """The loops that have no loop in them."""
    code: list[str] = []
    labels: dict[str, int] = {}
    for line in lines:
        if label := _LABEL.match(line):
            labels[label[1]] = len(code)
        elif instruction := _INSTRUCTION.match(line):
            code.append(instruction[1])
    spans = {
        (labels[branch[1]], end)
        for end, instruction in enumerate(code)
        if (branch := _BRANCH.search(instruction)) and labels.get(branch[1], len(code)) <= end
    }
    inner = [
        (begin, end)
        for begin, end in spans
        if not any(begin <= b and e <= end and (b, e) != (begin, end) for b, e in spans)
    ]
    return [Loop(end + 1 - begin, Counter(map(_kind, code[begin : end + 1])))
            for begin, end in inner]  # fmt: skip


def table(printed: dict[str, str]) -> str:
    """Markdown, from the code of the files with the forward and the backward kernels."""
    columns = []
    for symbol, lanes in _LANES.values():
        code = {
            file: [loop for name, lines in kernels(text) if symbol in name
                   for loop in inner_loops(lines)]
            for file, text in printed.items()
        }  # fmt: skip
        columns.append([each.per_element(code, lanes) for each in _COUNTED.values()])
    rows = zip(_COUNTED, *columns, strict=True)
    lines = [
        " | ".join((name, *(f"{number:.1f}" for number in numbers))) for name, *numbers in rows
    ]
    heads = [" | ".join(("", *_LANES)), " | ".join(("---", *("---:" for _ in _LANES)))]
    return "\n".join(f"| {line} |" for line in (*heads, *lines))


def atomics(printed: str) -> set[str]:
    """Kinds of instructions that add to memory in no order."""
    return {
        kind
        for _, lines in kernels(printed)
        for line in lines
        if (instruction := _INSTRUCTION.match(line))
        and (kind := _kind(instruction[1])).startswith(("RED.", "ATOM"))
    }
