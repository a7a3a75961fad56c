"""What a reader goes through: the files of a folder or of an archive, or a single file."""

from __future__ import annotations

import io
import lzma
import os
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import IO, TypeAlias, TypeVar

# True for a bar, None for one where a terminal shows it and rich is installed. A callable is told
# how many files are done, and how many there are.
Progress: TypeAlias = bool | Callable[[int, int], object] | None

_TAR = (".tar", ".tar.xz", ".tar.gz", ".tar.bz2", ".txz", ".tgz", ".tbz2")
_DAMAGE = (tarfile.TarError, zipfile.BadZipFile, lzma.LZMAError, zlib.error, EOFError, OSError)

_Item = TypeVar("_Item")


class Source:
    """The files below a folder or in a tar or zip archive, or one file.

    Raises:
        FileNotFoundError: nothing lies at the path.
        ValueError: an archive is damaged; when its files are first asked for.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        if not self.path.exists():
            raise FileNotFoundError(f"path: wanted a folder or a file, got {self.path}: not there")
        suffix = "" if self.path.is_dir() else self.path.name.lower()
        self._is_tar = suffix.endswith(_TAR)
        self._is_zip = suffix.endswith(".zip")
        self.holds_files = self.path.is_dir() or self._is_tar or self._is_zip

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Paths within the folder or archive, sorted; of a single file its name."""
        if self.path.is_dir():
            found = (Path(top, name) for top, _, names in os.walk(self.path) for name in names)
            return tuple(sorted(file.relative_to(self.path).as_posix() for file in found))
        if self._is_tar:
            return tuple(sorted(name for name, _ in self._tarred(frozenset())))
        if self._is_zip:
            with self._opened(), zipfile.ZipFile(self.path) as archive:
                return tuple(sorted(i.filename for i in archive.infolist() if not i.is_dir()))
        return (self.path.name,)

    def contents(
        self, names: Sequence[str], progress: Progress = None
    ) -> Iterator[tuple[str, bytes | OSError]]:
        """Some of the files, with what each holds or why it cannot be read."""
        files: Iterable[tuple[str, bytes | OSError]]
        if self._is_tar:
            wanted = frozenset(names)
            files = (file for file in self._tarred(wanted) if file[0] in wanted)
        elif self._is_zip:
            files = self._zipped(names)
        else:
            files = ((name, self._content(name)) for name in names)
        return track(files, len(names), progress)

    def open(self, name: str) -> IO[bytes]:
        """One of the files, to be closed by the caller."""
        if self._is_tar or self._is_zip:
            ((_, held),) = self.contents([name], progress=False)
            assert isinstance(held, bytes)
            return io.BytesIO(held)
        return (self.path / name if self.path.is_dir() else self.path).open("rb")

    def _content(self, name: str) -> bytes | OSError:
        try:
            return (self.path / name if self.path.is_dir() else self.path).read_bytes()
        except OSError as error:
            return error

    def _tarred(self, wanted: frozenset[str]) -> Iterator[tuple[str, bytes]]:
        """Every file, in the order of the archive: so it is decompressed but once."""
        with self._opened(), tarfile.open(self.path) as archive:
            for member in archive:
                if member.isfile():
                    file = archive.extractfile(member) if member.name in wanted else None
                    yield member.name, b"" if file is None else file.read()
            # A cut header looks like an end to tarfile; a true end is a block of zeros.
            assert archive.fileobj is not None
            archive.fileobj.seek(archive.offset)
            if archive.fileobj.read(512) != bytes(512):
                raise tarfile.ReadError("unexpected end of data")

    def _zipped(self, names: Sequence[str]) -> Iterator[tuple[str, bytes]]:
        with self._opened(), zipfile.ZipFile(self.path) as archive:
            for name in names:
                yield name, archive.read(name)

    @contextmanager
    def _opened(self) -> Iterator[None]:
        try:
            yield
        except _DAMAGE as error:
            raise ValueError(
                f"path: wanted an archive of a data set, got {self.path}, which cannot be read "
                f"({error})"
            ) from error


def track(items: Iterable[_Item], total: int, progress: Progress = None) -> Iterator[_Item]:
    """The items, while a bar or a callable is told how far they are.

    Raises:
        ImportError: a bar was asked for and rich is not installed.
    """
    if progress is None:
        progress = _somebody_watches()
    if progress is True:
        yield from _bar(items, total)
        return
    for done, item in enumerate(items, 1):
        yield item
        if callable(progress):
            progress(done, total)


def _somebody_watches() -> bool:
    try:
        import rich.progress  # noqa: F401
    except ImportError:
        return False
    return sys.stderr.isatty()


def _bar(items: Iterable[_Item], total: int) -> Iterator[_Item]:
    try:
        from rich.console import Console
        from rich.progress import track as bar
    except ImportError as error:
        raise ImportError(
            "progress: wanted rich for a bar, which is not installed: "
            "pip install 'csta_fast[data]', or pass progress=False"
        ) from error
    yield from bar(items, "reading", total=total, console=Console(stderr=True), transient=True)
