"""Zip archives of strangers: how much is unpacked at a time, and links in them."""

from __future__ import annotations

import posixpath
import stat
import zipfile

_MOST_LINKS = 40  # from link to link, as Linux has it
_LONGEST_PATH = 4096


def step(info: zipfile.ZipInfo) -> int:
    """How many bytes of a file to ask for at a time.

    zipfile bounds what comes out of deflated data by what is asked for. Of data packed otherwise
    it unpacks as many bytes as are asked for, and they may become a million times as many.
    """
    bounded = info.compress_type in (zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED)
    return 2**20 if bounded else 2**12


def target(archive: zipfile.ZipFile, name: str) -> zipfile.ZipInfo:
    """The file of a name; of a link the file that it leads to.

    Raises:
        ValueError: a link leads to no file of the archive.
    """
    info = archive.getinfo(name)
    for _ in range(_MOST_LINKS):
        if not stat.S_ISLNK(info.external_attr >> 16):
            return info
        if info.file_size > _LONGEST_PATH:
            break
        leads_to = archive.read(info).decode()
        try:
            info = archive.getinfo(
                posixpath.normpath(posixpath.join(posixpath.dirname(info.filename), leads_to))
            )
        except KeyError:
            break
    raise ValueError("it is a link, and leads to no file of the archive")
