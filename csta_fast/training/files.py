"""Files of a run: written beside their target and moved into place when they are whole.

A run's folder may come from a stranger. Whatever is written there replaces what has its name, a
link included, and never the target of a link.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_PARTIAL = ".csta-fast-partial."


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A new, empty file to write; it takes the place of ``path`` when the block ends.

    Its name ends as that of ``path`` does. It lies beside ``path``, because a move within a file
    system is atomic: a reader finds the old file or the whole new one, even after a power cut.
    """
    partial = path.with_name(_PARTIAL + path.name)
    partial.unlink(missing_ok=True)
    # Only a file that was not there before: a link of this name would be followed.
    os.close(os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    try:
        yield partial
        _flush(partial)
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    _flush(path.parent)


def write(path: Path, content: bytes | str) -> None:
    """Replace a file by one of this content."""
    with replacing(path) as partial:
        partial.write_bytes(content.encode() if isinstance(content, str) else content)


def sweep(folder: Path) -> None:
    """Remove the unfinished files of writers that were killed."""
    for partial in folder.glob(_PARTIAL + "*"):
        partial.unlink()


def refuse_link(path: Path) -> Path:
    """A path inside a run, unless it is a link, which may lead out of it: then a ValueError."""
    if path.is_symlink():
        raise ValueError(f"output: wanted a part of the run itself, got a link, {path}")
    return path


def check_writable(output: Path) -> None:
    """Raise an error if a folder for results cannot be written, or made, before any work is done.

    Raises:
        OSError: it cannot.
        ValueError: no folder can have such a name.
    """
    if "\0" in str(output):
        raise ValueError(f"output: wanted a folder, got {str(output)!r}")
    there = output
    while not there.exists():
        there = there.parent
    if not there.is_dir():
        raise NotADirectoryError(f"output: wanted a folder, got a file, {there}")
    if not os.access(there, os.W_OK | os.X_OK):
        raise PermissionError(f"output: wanted a folder that can be written, got {there}")


def prepare(output: Path, *folders: str) -> None:
    """Make a folder for results with these in it, and remove what killed writers left there.

    Raises:
        OSError: they cannot be written.
        ValueError: one of ``folders`` is a link.
    """
    for folder in (output, *(refuse_link(output / name) for name in folders)):
        folder.mkdir(parents=True, exist_ok=True)
        sweep(folder)


def _flush(path: Path) -> None:
    """Wait until the disk has a file, or the names in a folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
