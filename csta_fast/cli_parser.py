"""The command line's parser and messages: one line, in the words that were typed."""

from __future__ import annotations

import argparse
import difflib
import re
from typing import NoReturn


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, and keeps the lines of a description."""

    def __init__(self, name: str, description: str, usage: str | None = None) -> None:
        super().__init__(
            f"csta-fast {name}".strip(),
            usage,
            description,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    def error(self, message: str) -> NoReturn:
        raise ValueError(re.sub("^argument ", "", message))

    def parsed(self, arguments: list[str]) -> argparse.Namespace:
        """The arguments.

        Raises:
            ValueError: one is unknown, missing or wrong.
        """
        for before, word in zip(("", *arguments), arguments, strict=False):
            name, equals, value = word.partition("=")
            if not (value or name) or (equals and not value and name.startswith("--")):
                option = name or (before if before.startswith("--") else self.prog)
                raise ValueError(f"{option}: wanted a value, got ''")
        found, unknown = self.parse_known_args(arguments)
        if unknown:
            word = unknown[0].partition("=")[0]
            near = difflib.get_close_matches(word, self._option_string_actions, 1)
            hint = f"did you mean {near[0]}?" if near else f"{self.prog} --help names all"
            raise ValueError(f"wanted an option of {self.prog}, got {word}; {hint}")
        return found


def as_typed(command: str, message: str) -> str:
    """A message, with the option that it names as it stands on the command line."""
    name, colon, rest = message.partition(":")
    option = name.rpartition(".")[2]
    known: dict[str, str] = {}
    if command == "train":
        from csta_fast.training.arguments import names

        known = names() | {"output": "--output", "config": "--config"}
        known["path"] = known["source"]
    elif command in ("evaluate", "plot"):
        options = "source", "kind", "protocol", "output", "recording", "clip"
        known = {each: f"--{each}" for each in options} | {"path": "--source"}
    elif command == "convert":
        known = {"path": "source", "kind": "--kind"}
    return f"{known[option]}:{rest}" if colon and option in known else message


def is_memory(error: BaseException) -> bool:
    """Whether PyTorch or Python had no memory left."""
    kinds = {each.__name__ for each in type(error).__mro__}
    # PyTorch's, which is not imported for it; its CPU allocator has no kind of error of its own.
    return bool(kinds & {"MemoryError", "OutOfMemoryError"}) or "allocate memory" in str(error)


def printable(text: str) -> str:
    """A text in one line. What strangers name may hold control characters, or what is no text."""
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)
