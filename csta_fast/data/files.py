"""What a reader goes through: the files of a folder or of an archive, or a single file."""

from __future__ import annotations

import io
import os
import stat
import sys
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import IO, TypeAlias, TypeVar

from csta_fast.data import tar, unzip
from csta_fast.data.limits import Limits

# True for a bar, None for one where a terminal shows it and rich is installed. A callable is told
# how many files are done, and how many there are.
Progress: TypeAlias = bool | Callable[[int, int], object] | None

_TAR = (".tar", ".tar.xz", ".tar.gz", ".tar.bz2", ".txz", ".tgz", ".tbz2")

_Item = TypeVar("_Item")


class CallbackError(BaseException):
    """The caller's own callable raised something, which is no fault of any file."""

    def __init__(self, error: Exception) -> None:
        super().__init__(error)
        self.error = error


def reason(error: Exception) -> str:
    """What an error says, after its kind where it was not made to be read."""
    if isinstance(error, (ValueError, OSError)) and str(error):
        return str(error)
    return f"{type(error).__name__}: {error}"


class Source:
    """The files below a folder or in a tar or zip archive, or one file.

    Links are followed: a folder that is linked to is gone through once, and a link in an archive
    holds what the file of the archive does that it leads to.

    Raises:
        FileNotFoundError: nothing lies at the path.
        ValueError: neither a folder nor a regular file lies there; or an archive is damaged, or
            holds more than the limits allow, when its files are first asked for.
    """

    def __init__(self, path: str | os.PathLike[str], limits: Limits | None = None) -> None:
        self.path = Path(path)
        self.limits = limits or Limits.from_environment()
        if not self.path.exists():
            raise FileNotFoundError(f"path: wanted a folder or a file, got {self.path}: not there")
        status = self.path.stat()
        self._is_folder = stat.S_ISDIR(status.st_mode)
        if not (self._is_folder or stat.S_ISREG(status.st_mode)):
            raise ValueError(
                f"path: wanted a folder or a file, got {self.path}, which is {_kind(status)}"
            )
        suffix = "" if self._is_folder else self.path.name.lower()
        self._is_tar = suffix.endswith(_TAR)
        self._is_zip = suffix.endswith(".zip")
        self.holds_files = self._is_folder or self._is_tar or self._is_zip
        self._allowed = self.limits.unpacked(status.st_size)  # of an archive, in all

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Paths within the folder or archive, sorted; of a single file its name."""
        if self._is_folder:
            return tuple(sorted(self._below()))
        if self._is_tar:
            with self._opened(), tar.Reader(self.path, self._allowed) as archive:
                found = archive.names()
        elif self._is_zip:
            with self._opened(), zipfile.ZipFile(self.path) as archive:
                found = [info.filename for info in archive.infolist() if not info.is_dir()]
        else:
            return (self.path.name,)
        self._count(len(found))
        return tuple(sorted(found))

    def contents(
        self, names: Sequence[str], progress: Progress = None
    ) -> Iterator[tuple[str, bytes | Exception]]:
        """Some of the files, each of one recording, with what it holds or why it cannot be read."""
        return track(self._held(names, self.limits.recording_bytes), len(names), progress)

    def open(self, name: str) -> IO[bytes]:
        """One of the files, of whatever size, to be closed by the caller."""
        if not (self._is_tar or self._is_zip):
            return _opened(self.path / name if self._is_folder else self.path)
        ((_, held),) = self._held([name], self._allowed)
        if isinstance(held, Exception):
            raise ValueError(
                f"path: wanted an archive of a data set, got {self.path}, where {name} cannot be "
                f"read ({reason(held)})"
            ) from held
        return io.BytesIO(held)

    def size(self, name: str) -> int:
        """How many bytes one of the files takes on disk; of an archive's that of the archive."""
        return (self.path / name if self._is_folder else self.path).stat().st_size

    def _held(self, names: Sequence[str], most: int) -> Iterator[tuple[str, bytes | Exception]]:
        if not (self._is_tar or self._is_zip):
            yield from ((name, self._read(name, most)) for name in names)
            return
        left = self._allowed
        with self._opened():
            unpack = self._tarred if self._is_tar else self._zipped
            for name, held in unpack(names, most):
                # Files of an archive may lie in one another, so that each alone is within bounds.
                left -= 0 if isinstance(held, Exception) else len(held)
                if left < 0:
                    raise self._too_large(self._allowed, "more in all files together")
                yield name, held

    def _below(self) -> Iterator[str]:
        """The files below the folder. A folder that several links lead to is entered once."""
        seen: set[tuple[int, int]] = set()
        count = 0
        for top, folders, names in os.walk(self.path, followlinks=True, onerror=_unreadable):
            status = os.stat(top)
            if (status.st_dev, status.st_ino) in seen:
                folders.clear()
                continue
            seen.add((status.st_dev, status.st_ino))
            folders.sort()
            count += len(names)
            self._count(count)
            yield from (Path(top, name).relative_to(self.path).as_posix() for name in names)

    def _count(self, files: int) -> None:
        if files > self.limits.files:
            error = self.limits.refuse("files", f"up to {self.limits.files} files", f"{files}")
            raise ValueError(f"path: {self.path}: {error}")

    def _read(self, name: str, most: int) -> bytes | Exception:
        try:
            with _opened(self.path / name if self._is_folder else self.path) as file:
                held = file.read(most + 1)
        except (OSError, ValueError) as error:
            return error
        return held if len(held) <= most else self._too_large(most, f"more than {most} bytes")

    def _too_large(self, most: int, got: str) -> ValueError:
        which = "recording_bytes" if most == self.limits.recording_bytes else "growth"
        return self.limits.refuse(which, f"a file of up to {most} bytes", got)

    def _tarred(self, names: Sequence[str], most: int) -> Iterator[tuple[str, bytes | Exception]]:
        """Files in the order of the archive: so it is decompressed but once."""
        with tar.Reader(self.path, self._allowed) as archive:
            for name, member in archive.members(frozenset(names)):
                if member.size > most:
                    yield name, self._too_large(most, f"{member.size}")
                else:
                    yield name, archive.content(member)

    def _zipped(self, names: Sequence[str], most: int) -> Iterator[tuple[str, bytes | Exception]]:
        with zipfile.ZipFile(self.path) as archive:
            for name in names:
                yield name, self._unzipped(archive, name, most)

    def _unzipped(self, archive: zipfile.ZipFile, name: str, most: int) -> bytes | Exception:
        try:
            info = unzip.target(archive, name)
            if info.file_size > most:
                return self._too_large(most, f"{info.file_size}")
            with archive.open(info) as file:
                return b"".join(iter(lambda: file.read(unzip.step(info)), b""))
        except MemoryError:
            raise
        except Exception as error:  # encrypted, packed in an unknown way, damaged, ...
            return error

    @contextmanager
    def _opened(self) -> Iterator[None]:
        try:
            yield
        except MemoryError:
            raise
        except Exception as error:  # tarfile and zipfile raise a dozen kinds
            raise ValueError(
                f"path: wanted an archive of a data set, got {self.path}, which cannot be read "
                f"({reason(error)})"
            ) from error


def _opened(path: Path) -> IO[bytes]:
    """A regular file; a pipe would hang, and a device never end."""
    number = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    try:
        status = os.fstat(number)
        if not stat.S_ISREG(status.st_mode):
            raise ValueError(f"wanted a regular file, got {path}, which is {_kind(status)}")
        return os.fdopen(number, "rb")
    except BaseException:
        os.close(number)
        raise


def _kind(status: os.stat_result) -> str:
    kinds = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
    return kinds.get(stat.S_IFMT(status.st_mode), "a device")


def _unreadable(error: OSError) -> None:
    """A folder that cannot be listed would be lost without a word."""
    raise error


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
            try:
                progress(done, total)
            except Exception as error:
                raise CallbackError(error) from error


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
