"""Reading a data set, of whatever kind."""

from __future__ import annotations

import os

from csta_fast.data.files import CallbackError, Progress, Source, reason
from csta_fast.data.formats import FORMATS
from csta_fast.data.limits import Limits
from csta_fast.data.recordings import Collection


def read(
    path: str | os.PathLike[str],
    kind: str | None = None,
    *,
    progress: Progress = None,
    limits: Limits | None = None,
) -> Collection:
    """A data set in memory.

    A file or sample of it that cannot be used (truncated, empty, holding values that are not
    finite, misnamed, ...) is left out, and stands with the reason in ``Collection.skipped``.

    Args:
        path: a folder, a tar or zip archive of one, or a file.
        kind: a key of ``csta_fast.data.FORMATS``; None to find it out from what lies at the path.
        progress: True for a bar on standard error, False for none, None for one where a terminal
            shows it and rich is installed; or a callable that is told how many files are done, and
            how many there are.
        limits: how much its files may take; None for those of the environment variable
            ``CSTA_FAST_LIMITS``, else the usual ones.

    Raises:
        FileNotFoundError: nothing lies at the path.
        ValueError: the kind is unknown or cannot be told, an archive or single file is damaged or
            over a limit, or nothing of the kind could be read.
        OSError: the system refuses to let a folder or a single file be read.
        ImportError: reading this needs a library that is not installed.
    """
    if kind is not None and kind not in FORMATS:
        raise ValueError(f"kind: wanted one of {', '.join(FORMATS)}, got {kind!r}")
    source = Source(path, limits)
    form = FORMATS[kind or _kind(source)]
    try:
        return form.read(source, progress)
    except CallbackError as error:
        raise error.error from None
    except (ValueError, OSError, ImportError, MemoryError):
        raise
    except Exception as error:  # a damaged file is told of, whatever it makes a library raise
        raise ValueError(
            f"path: wanted {form.wanted}, got {source.path}, which is damaged ({reason(error)})"
        ) from error


def _kind(source: Source) -> str:
    found = [form for form in FORMATS.values() if form.recognises(source)]
    if len(found) == 1:
        return found[0].kind
    if found:
        kinds = " and ".join(form.kind for form in found)
        raise ValueError(f"kind: wanted one to be named, got {source.path}, which holds {kinds}")
    known = "; ".join(f"{form.kind}: {form.wanted}" for form in FORMATS.values())
    raise ValueError(f"path: wanted a data set, got {source.path}, which is none of these: {known}")
