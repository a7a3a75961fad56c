"""Looks through a pickle before anything of it is built: lengths, memo and tuples are in bounds.

The C unpickler makes room for whatever length or memo index a file claims. Tuples, as keys, are
hashed by recursion that nothing stops before the stack ends, and anew for every place where one
stands. So the operations are gone through once; nothing is built, but how deep and how large the
tuples on the stack are.
"""

from __future__ import annotations

import mmap
import pickletools
from typing import Final, TypeAlias

from csta_fast.data.limits import Limits

Data: TypeAlias = bytes | mmap.mmap

_MARK: Final = -1  # on the stack of tuples
_OPCODES: Final = {code.name: ord(code.code) for code in pickletools.opcodes}


def _takes(code: pickletools.OpcodeInfo) -> int:
    """How much an operation takes from the stack; -1 - n for all down to a mark, and n below it."""
    before = code.stack_before
    mark = pickletools.markobject
    return -1 - before.index(mark) if mark in before else len(before)


def _size(code: pickletools.OpcodeInfo) -> int:
    """How many bytes follow an operation: how many, or their number, or -1 for a line."""
    return 0 if code.arg is None else code.arg.n


# Operations by their code: bytes that follow, what is taken from the stack, and what is left on it.
_OPERATIONS: Final = {
    ord(code.code): (_size(code), _takes(code), len(code.stack_after))
    for code in pickletools.opcodes
}
# How many bytes hold the number of those that follow.
_COUNTED: Final = {
    pickletools.TAKEN_FROM_ARGUMENT1: 1,
    pickletools.TAKEN_FROM_ARGUMENT4: 4,
    pickletools.TAKEN_FROM_ARGUMENT4U: 4,
    pickletools.TAKEN_FROM_ARGUMENT8U: 8,
}
_TWO_LINES: Final = (_OPCODES["GLOBAL"], _OPCODES["INST"])
_TUPLES: Final = {_OPCODES[f"TUPLE{count}"]: count for count in (1, 2, 3)}
_PUTS: Final = tuple(_OPCODES[name] for name in ("PUT", "BINPUT", "LONG_BINPUT"))
_GETS: Final = tuple(_OPCODES[name] for name in ("GET", "BINGET", "LONG_BINGET"))
_MEMOIZE, _TUPLE, _STOP, _POP, _DUP, _MARKED, _FRAME = (
    _OPCODES[name] for name in ("MEMOIZE", "TUPLE", "STOP", "POP", "DUP", "MARK", "FRAME")
)
_BINGET: Final = _OPCODES["BINGET"]
_SPECIAL: Final = frozenset((*_TUPLES, *_PUTS, *_GETS, _TUPLE, _STOP, _POP, _DUP, _MARKED, _FRAME))


def check(data: Data, limits: Limits) -> None:
    """Look through a pickle.

    Raises:
        ValueError: it ends early, claims more bytes or memo than it has, or is too deep.
    """
    try:
        _Walk(data, limits).run()
    except IndexError:
        raise ValueError("it ends, or its stack does, within an operation") from None


# A tuple: how deep it is, 1 without another in it, and its items, those of tuples in it included.
_Tuple: TypeAlias = tuple[int, int]


class _Walk:
    """One walk through a pickle. On the stack stand tuples, marks, and 0 for all else."""

    def __init__(self, data: Data, limits: Limits) -> None:
        self.data, self.limits = data, limits
        self.stack: list[int | _Tuple] = []
        self.memo: dict[int, int | _Tuple] = {}  # without what is 0
        self.memoized = 0  # by MEMOIZE, which numbers by itself
        self.put = False
        self.left = limits.unpacked(len(data))  # items of tuples that operations may still take

    def run(self) -> None:
        data, stack, operations, special = self.data, self.stack, _OPERATIONS, _SPECIAL
        at = 0
        while True:
            code = data[at]
            at += 1
            if code == _MEMOIZE:
                if stack[-1]:
                    self.memo[self.memoized] = stack[-1]
                self.memoized += 1
                continue
            operation = operations.get(code)
            if operation is None:
                raise ValueError(f"it holds no operation {bytes([code])!r}")
            size, takes, leaves = operation
            start = at
            if size > 0:
                at += size
            elif size < 0:
                at = self._past(code, size, at)
            if code == _BINGET:
                stack.append(self.memo.get(data[start], 0))
                continue
            if code in special:
                if code == _STOP:
                    return
                self._special(code, start, at)
                continue
            if takes:
                self._take(takes)
            if leaves:
                stack.append(0)

    def _past(self, code: int, size: int, at: int) -> int:
        """Where what follows an operation ends."""
        if size in _COUNTED:
            first = at + _COUNTED[size]
            at = first + int.from_bytes(self.data[at:first], "little")
        else:
            for _ in range(2 if code in _TWO_LINES else 1):
                at = self.data.find(b"\n", at) + 1
                if not at:
                    raise IndexError
        self._check_end(at)
        return at

    def _check_end(self, at: int) -> None:
        if at > len(self.data):
            raise ValueError(f"it ends {at - len(self.data)} bytes before what it announces")

    def _special(self, code: int, start: int, end: int) -> None:
        stack = self.stack
        if code in _TUPLES:
            self._tuple(_TUPLES[code])
        elif code == _TUPLE:
            self._tuple(-1)
        elif code in _GETS:
            stack.append(self.memo.get(self._index(start, end), 0))
        elif code in _PUTS:
            index, self.put = self._index(start, end), True
            if index > end:  # no pickler numbers further than it has written operations
                raise ValueError(f"it keeps something as number {index} within {end} bytes")
            self.memo[index] = stack[-1]
        elif code == _FRAME:
            self._check_end(end + int.from_bytes(self.data[start:end], "little"))
        elif code == _MARKED:
            stack.append(_MARK)
        elif code == _DUP:
            stack.append(stack[-1])
        else:
            stack.pop()
        if self.put and self.memoized:
            raise ValueError("it numbers what it keeps in two ways")

    def _take(self, takes: int) -> list[int | _Tuple]:
        """What an operation takes from the stack, but the mark."""
        stack = self.stack
        taken = []
        if takes < 0:
            while (entry := stack.pop()) != _MARK:
                taken.append(entry)
            takes = -1 - takes
        if takes:
            below = stack[-takes:]
            if len(below) < takes or _MARK in below:
                raise IndexError
            del stack[-takes:]
            taken += below
        if any(taken):
            self.left -= sum(entry[1] for entry in taken if isinstance(entry, tuple))
            if self.left < 0:
                raise self.limits.refuse("growth", "fewer copies of tuples", "more")
        return taken

    def _tuple(self, takes: int) -> None:
        depth, items = 1, 1
        for entry in self._take(takes):
            items += 1
            if isinstance(entry, tuple):
                depth, items = max(depth, 1 + entry[0]), items + entry[1]
        if depth > self.limits.depth:
            wanted = f"tuples in one another up to {self.limits.depth} deep"
            raise self.limits.refuse("depth", wanted, "deeper ones")
        self.stack.append((depth, items))

    def _index(self, start: int, end: int) -> int:
        held = self.data[start:end]
        if self.data[start - 1] in (_OPCODES["PUT"], _OPCODES["GET"]):
            return int(held) if len(held) < 20 else 2**63
        return int.from_bytes(held, "little")
