"""Tar archives of strangers: how much they unpack is bounded, and links in them are resolved."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import posixpath
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast

# What says that the archive itself is damaged, and not a file in it alone.
_DAMAGE = (tarfile.TarError, lzma.LZMAError, zlib.error, EOFError, OSError)
_MOST_LINKS = 40  # from link to link, as Linux has it
_STEP = 2**20
_HEADER = 2**20  # bytes of a member's headers, with long names and attributes


def _unpacked(file: IO[bytes]) -> IO[bytes]:
    """The archive in a file, by what the file begins with."""
    start = file.read(6)
    file.seek(0)
    if start.startswith(b"\x1f\x8b"):
        return cast(IO[bytes], gzip.GzipFile(fileobj=file))
    if start.startswith(b"BZh"):
        return bz2.BZ2File(file)
    if start.startswith((b"\xfd7zXZ\0", b"]\0\0")):
        return lzma.LZMAFile(file)
    return file


class _Bounded(io.RawIOBase):
    """A stream that is unpacked up to a number of bytes; what tarfile asks for is not trusted."""

    def __init__(self, stream: IO[bytes], allowed: int) -> None:
        self._stream, self._allowed = stream, allowed
        self.content = False  # whether that of a file is read, and no header

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._stream.tell()

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence == io.SEEK_SET and offset > self._allowed:
            raise self._too_much()
        return self._stream.seek(offset, whence)

    def read(self, size: int = -1) -> bytes:
        if size > _HEADER and not self.content:
            raise tarfile.ReadError(f"wanted a header of up to {_HEADER} bytes, got {size}")
        left = self._allowed - self._stream.tell()
        if left < 0:
            raise self._too_much()
        wanted = left + 1 if size < 0 else min(size, left + 1)
        parts = []
        while wanted and (part := self._stream.read(min(wanted, _STEP))):
            parts.append(part)
            wanted -= len(part)
        held = parts[0] if len(parts) == 1 else b"".join(parts)
        if len(held) > left:
            raise self._too_much()
        return held

    def _too_much(self) -> tarfile.ReadError:
        return tarfile.ReadError(
            f"wanted up to {self._allowed} bytes unpacked, got more; limit growth, which "
            "CSTA_FAST_LIMITS=growth=... raises"
        )


class Reader:
    """A tar archive, open; at most ``allowed`` bytes of it are unpacked at a time."""

    def __init__(self, path: Path, allowed: int) -> None:
        self._file = path.open("rb")
        try:
            self._stream = _Bounded(_unpacked(self._file), allowed)
            self._archive = tarfile.TarFile(fileobj=cast(IO[bytes], self._stream))
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self._archive.close()
        self._file.close()

    def names(self) -> list[str]:
        """All that is no folder."""
        found = [member.name for member in self._archive if not member.isdir()]
        self._check_end()
        return found

    def members(self, wanted: frozenset[str]) -> Iterator[tuple[str, tarfile.TarInfo]]:
        """The members of these names, each as soon as it can be read in passing.

        A link comes as the member that it leads to, under its own name, where it comes from: a
        link that leads to nothing, or to no file, as itself.
        """
        links: list[tarfile.TarInfo] = []
        for member in self._archive:
            if member.name in wanted:
                if member.issym() or member.islnk():
                    links.append(member)
                elif not member.isdir():
                    yield member.name, member
        self._check_end()
        if links:
            found = {member.name: member for member in self._archive.getmembers()}
            resolved = [(link.name, _target(link, found)) for link in links]
            # In the order of the archive, so that it is not unpacked anew for every link.
            yield from sorted(resolved, key=lambda pair: pair[1].offset_data)

    def content(self, member: tarfile.TarInfo) -> bytes | Exception:
        """What a member holds, or why it alone cannot be read."""
        if member.issym() or member.islnk():
            return ValueError(f"it is a link to {member.linkname}, which is no file of the archive")
        if not member.isfile():
            return ValueError("wanted a regular file, got a device or a pipe")
        try:
            self._stream.content = True
            file = self._archive.extractfile(member)
            return b"" if file is None else file.read()
        except MemoryError:
            raise
        except Exception as error:
            # A sparse file says itself where its data lie, which need not be in the archive.
            if isinstance(error, _DAMAGE) and not member.issparse():
                raise
            return error
        finally:
            self._stream.content = False

    def _check_end(self) -> None:
        """A cut header looks like an end to tarfile; a true end is a block of zeros."""
        assert self._archive.fileobj is not None
        self._archive.fileobj.seek(self._archive.offset)
        if self._archive.fileobj.read(512) != bytes(512):
            raise tarfile.ReadError("unexpected end of data")


def _target(link: tarfile.TarInfo, members: dict[str, tarfile.TarInfo]) -> tarfile.TarInfo:
    """The member that a link leads to in the end; the link itself if that is none."""
    at = link
    for _ in range(_MOST_LINKS):
        if at.isfile():
            return at
        if at.issym():
            name = posixpath.normpath(posixpath.join(posixpath.dirname(at.name), at.linkname))
        elif at.islnk():
            name = at.linkname
        else:
            break
        following = members.get(name) or members.get("./" + name)
        if following is None:
            break
        at = following
    return link
