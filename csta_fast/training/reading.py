"""Reading checkpoints and files of options that a stranger may have written.

Bounds are checked before anything is unpacked. Every refusal is a ValueError in words of this
package; those of PyTorch and YAML advise to switch protections off, or say nothing to a user.
"""

from __future__ import annotations

import pickletools
import stat
import warnings
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import torch
import yaml

from csta_fast.data.limits import Limits

_MOST_TUPLES = 50_000  # of the pickle: hashing a deep tuple overflows the stack
_MOST_ENTRIES = 10_000
_MOST_TEXT = 16 << 20  # bytes of a file of options, or a log
_MOST_EVENTS = 10_000
_MOST_DEPTH = 10


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The plain values and tensors, on the CPU, of a file of ``torch.save``. Runs no code of it.

    Raises:
        OSError: there is no such file, or it cannot be read.
        ValueError: it is no such file, it is damaged, or over a limit.
    """
    limits = Limits.from_environment()
    size = _size(path, "checkpoint")
    if size > limits.checkpoint_bytes:
        most = f"a file of up to {limits.checkpoint_bytes} bytes"
        raise ValueError(
            f"checkpoint: {limits.refuse('checkpoint_bytes', most, f'{size}')}: {path}"
        )
    wanted = "checkpoint: wanted one that csta-fast train wrote, got"
    with path.open("rb") as file:
        try:
            _check_archive(file, size, structure_bytes(limits))
            file.seek(0)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                content = torch.load(file, map_location="cpu", weights_only=True)
        except _RefusedError as error:
            raise ValueError(f"{wanted} {path}: {error}") from None
        except zipfile.BadZipFile:
            raise ValueError(f"{wanted} {path}: it is damaged, or no checkpoint") from None
        except Exception as error:  # whatever PyTorch makes of damaged or foreign content
            raise ValueError(
                f"{wanted} {path}: it is damaged, or holds more than tensors and plain values"
            ) from error
    if not isinstance(content, dict):
        raise ValueError(f"{wanted} {path}: it holds a {type(content).__name__}")
    return content


def structure_bytes(limits: Limits) -> int:
    """How large the pickle of a checkpoint may be: it holds options and names, and no tensors."""
    return 2**20 + 400 * limits.classes


def read_options(path: Path) -> Any:
    """The plain values of a YAML file, of which no part stands for another.

    Raises:
        OSError: there is no such file, or it cannot be read.
        ValueError: it is no YAML, or holds aliases, or more than any set of options.
    """
    text = read_text(path, "config")
    try:
        depth = 0
        for number, event in enumerate(yaml.parse(text, yaml.SafeLoader)):
            if isinstance(event, yaml.AliasEvent):
                raise _RefusedError(f"an alias, *{str(event.anchor)[:40]}")
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)
            if depth > _MOST_DEPTH or number > _MOST_EVENTS:
                raise _RefusedError(f"more than {_MOST_DEPTH} levels or {_MOST_EVENTS} values")
        return yaml.safe_load(text)
    except _RefusedError as error:
        raise ValueError(f"config: wanted plain options, got {error}: {path}") from None
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        place = "" if mark is None else f", line {mark.line + 1}"
        raise ValueError(f"config: wanted a YAML file of options, got {path}{place}") from None


def read_text(path: Path, name: str) -> str:
    """The text of a file of moderate size; ``name`` is that of the argument in a message.

    Raises:
        OSError: there is no such file, or it cannot be read.
        ValueError: it is no file of text, or too large.
    """
    size = _size(path, name)
    if size > _MOST_TEXT:
        raise ValueError(f"{name}: wanted at most {_MOST_TEXT} bytes, got {size}: {path}")
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise ValueError(f"{name}: wanted a file of text, got {path}") from None


class _RefusedError(Exception):
    """Why a file is not read further."""


def _size(path: Path, name: str) -> int:
    """That of a file; neither pipes nor devices are opened."""
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise ValueError(f"{name}: wanted a file, got {path}")
    return found.st_size


def _check_archive(file: BinaryIO, size: int, structure: int) -> None:
    """Refuse archives that unpack to more than they are, or that are not as they were written."""
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
        if len(entries) > _MOST_ENTRIES or sum(entry.file_size for entry in entries) > size:
            raise _RefusedError("it unpacks to more than it is")
        for entry in entries:
            if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1:
                raise _RefusedError("it is compressed or encrypted")
        damaged = archive.testzip()
        if damaged is not None:
            raise _RefusedError("it is damaged")
        pickles = [entry for entry in entries if entry.filename.endswith(".pkl")]
        if len(pickles) != 1:
            raise _RefusedError("it is no checkpoint")
        if pickles[0].file_size > structure:
            raise _RefusedError(f"it describes itself in more than {structure} bytes")
        _check_pickle(archive.read(pickles[0]))


def _check_pickle(content: bytes) -> None:
    tuples = 0
    for code, _, _ in pickletools.genops(content):
        tuples += "TUPLE" in code.name
        if tuples > _MOST_TUPLES:
            raise _RefusedError(f"it holds more than {_MOST_TUPLES} tuples")
