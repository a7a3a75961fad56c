"""The options as arguments of a command, and as files."""

from __future__ import annotations

import argparse
import re
import types
from collections.abc import Mapping
from dataclasses import fields
from functools import partial
from pathlib import Path
from reprlib import repr as short
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from csta_fast.backends import BACKENDS
from csta_fast.data import FORMATS
from csta_fast.training.options import Options
from csta_fast.training.reading import read_options

_SECTIONS = get_type_hints(Options)
# The names that a section's own words do not give.
_NAMES = {
    "data.kind": ", ".join(FORMATS),
    "data.protocol": "cross-subject, cross-view, cross-setup, or another one of the data set",
    "model.backend": ", ".join(BACKENDS),
}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Every option as an argument ``--SECTION.OPTION``, explained by its class."""
    for section, kind in _SECTIONS.items():
        title = (kind.__doc__ or "").partition("\n")[0].rstrip(".")
        group = parser.add_argument_group(title)
        explained = _explained(kind.__doc__ or "")
        for option, hint in get_type_hints(kind).items():
            default = getattr(kind(), option)
            name = f"{section}.{option}"
            words = explained[option].rstrip(".")
            words += f"; one of {_NAMES[name]}" if name in _NAMES else ""
            words += "" if default is None else f" (default: {_text(default)})"
            group.add_argument(
                f"--{name}",
                type=partial(_argument, hint),
                default=argparse.SUPPRESS,
                metavar=_metavar(hint),
                help=words.replace("%", "%%"),
            )


def chosen(arguments: argparse.Namespace, *files: Path) -> dict[str, Any]:
    """The options, and whatever else a file may say: of the defaults, the files, the arguments.

    Raises:
        OSError: a file cannot be read.
        ValueError: it holds anything but options.
    """
    merged: dict[str, Any] = Options().as_dict()
    for file in files:
        _merge(merged, read_options(file), file)
    for name, value in vars(arguments).items():
        section, dot, option = name.partition(".")
        if dot:
            merged[section][option] = value
    return merged


def names() -> dict[str, str]:
    """The argument for every option, by the name that messages use."""
    return {
        option: f"--{section}.{option}"
        for section, kind in _SECTIONS.items()
        for option in (each.name for each in fields(kind))
    }


def _merge(merged: dict[str, Any], plain: Any, file: Path) -> None:
    wanted = f"config: wanted options of csta-fast train in {file}"
    if not isinstance(plain, Mapping):
        raise ValueError(f"{wanted}, got {short(plain)}")
    for section, options in plain.items():
        if section == "output" and isinstance(options, str):
            merged["output"] = options
            continue
        if section not in _SECTIONS or not isinstance(options, Mapping):
            raise ValueError(f"{wanted}, got {short(section)}: {short(options)}")
        hints = get_type_hints(_SECTIONS[section])
        for option, value in options.items():
            if option not in hints:
                raise ValueError(f"{wanted}, got {section}.{str(option)[:80]}")
            if isinstance(value, str):  # YAML takes 1e-3 for a text
                try:
                    value = _converted(hints[option], value)
                except ValueError as error:
                    raise ValueError(f"{section}.{option}: {error} in {file}") from None
            merged[section][option] = value


def _argument(hint: Any, text: str) -> Any:
    try:
        return _converted(hint, text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _converted(hint: Any, text: str) -> Any:
    """The value that a text stands for.

    Raises:
        ValueError: it stands for none of the wanted type.
    """
    for kind in get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,):
        try:
            return _value(kind, text)
        except (KeyError, ValueError):
            continue
    raise ValueError(f"wanted {_wanted(hint)}, got {text[:80]!r}")


def _value(kind: Any, text: str) -> Any:
    if kind is types.NoneType:
        return {"null": None, "none": None}[text]
    if kind is bool:
        return {"true": True, "false": False}[text.lower()]
    if get_origin(kind) is Literal:
        return {each: each for each in get_args(kind)}[text]
    if get_origin(kind) is tuple:
        parts = text.strip("[]()").split(",")
        return tuple(_value(*pair) for pair in zip(get_args(kind), parts, strict=True))
    return kind(text)


def _wanted(hint: Any) -> str:
    """A type in words of the command line."""
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        return " or ".join(_wanted(each) for each in get_args(hint))
    if origin is Literal:
        return "one of " + ", ".join(get_args(hint))
    if origin is tuple:
        return ",".join(map(_wanted, get_args(hint)))
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "a name"}
    return words.get(hint, "null")


def _metavar(hint: Any) -> str:
    """What stands for the value in the help."""
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        return "|".join(_metavar(each) for each in get_args(hint) if each is not types.NoneType)
    if origin is Literal:
        return "{" + ",".join(get_args(hint)) + "}"
    if origin is tuple:
        return ",".join(map(_metavar, get_args(hint)))
    return {int: "N", float: "X", bool: "{true,false}", str: "NAME"}[hint]


def _text(default: Any) -> str:
    if isinstance(default, tuple):
        return ",".join(map(str, default))
    return str(default).lower() if isinstance(default, bool) else str(default)


def _explained(docstring: str) -> dict[str, str]:
    """The words of an ``Attributes:`` list, by attribute; several may share theirs."""
    text = docstring.partition("Attributes:\n")[2]
    found: dict[str, str] = {}
    for block in re.split(r"\n(?= {8}\w)", "\n" + text):
        attributes, colon, words = block.partition(":")
        if colon:
            for attribute in attributes.split(","):
                found[attribute.strip()] = " ".join(words.split())
    return found
