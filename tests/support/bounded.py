"""Actions that must stay within little memory and time, whatever a stranger's file says."""

from __future__ import annotations

import os
import resource
import signal
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from csta_fast.data import Collection, read

_MEMORY = 300 * 2**20  # bytes beyond what the process has
_SECONDS = 60


def in_bounds(act: Callable[[], Any]) -> str:
    """What an action said, in a process of little memory and time: what it raised, or returned."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        signal.alarm(_SECONDS)
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * resource.getpagesize() + _MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        try:
            said = f"returned {act()}"
        except ValueError as error:
            said = f"ValueError: {error}"
        except BaseException:
            said = traceback.format_exc()
        os.write(writing, said[:4000].encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        said = pipe.read().decode()
    _, status = os.waitpid(child, 0)
    assert status == 0, f"it was ended by signal {os.WTERMSIG(status)}"
    return said


def skipped(path: Path, kind: str | None = None) -> str:
    """What was skipped, beside what was read."""
    found: Collection = read(path, kind, progress=False)
    return f"{len(found.recordings)} and {sorted(found.skipped.items())}"
