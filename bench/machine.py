"""The machine block: what a reader must know to compare figures. No host names, no paths."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import torch

from bench import warm_heap
from bench.groups import HIDDEN
from bench.timing import page_faults
from csta_fast import __version__
from csta_fast.backends import cpu as cpu_backend

_CACHES = Path("/sys/devices/system/cpu/cpu0/cache")
_REPOSITORY = Path(__file__).parent.parent


def _first_line(path: str, key: str) -> str | None:
    """The value of the first "key : value" line of a file under /proc."""
    if not Path(path).exists():
        return None
    lines = Path(path).read_text().splitlines()
    found = (line.partition(":")[2].strip() for line in lines if line.startswith(key))
    return next(found, None)


def cpu() -> str:
    name = _first_line("/proc/cpuinfo", "model name") or platform.processor() or "unknown"
    family, model = (_first_line("/proc/cpuinfo", key) for key in ("cpu family", "model\t"))
    return f"{name} (family {family}, model {model})" if family and model else name


def _caches() -> str:
    found = []
    for index in sorted(_CACHES.glob("index*")):
        level, kind, size = (
            (index / name).read_text().strip() for name in ("level", "type", "size")
        )
        if kind != "Instruction":
            found.append(f"L{level} {size}")
    return ", ".join(found) or "unknown"


def _memory() -> str:
    total = _first_line("/proc/meminfo", "MemTotal")
    return f"{int(total.split()[0]) / 2**20:.0f} GiB" if total else "unknown"


def operating_system() -> str:
    try:
        distribution = platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        distribution = platform.system()
    return f"{distribution}, {platform.system()} {platform.release()}"


def commit() -> str:
    def git(*words: str) -> str:
        command = ["git", "-C", str(_REPOSITORY), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        commit = git("rev-parse", "--short", "HEAD")
        changed = git("status", "--porcelain", "--", "csta_fast", "csrc", "kernels")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{commit} with changes" if changed else commit


def faults_of_a_tensor() -> int:
    """Pages mapped anew when a tensor of 64 MiB is made again where one was freed before."""
    shape = (2**24,)
    torch.zeros(shape)
    before = page_faults()
    torch.zeros(shape)
    return page_faults() - before


def describe(backend: str) -> dict[str, Any]:
    """What stands in the JSON as machine_info and in the report as its table."""
    return {
        "cpu": cpu(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "caches": _caches(),
        "memory": _memory(),
        "system": operating_system(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "csta_fast": __version__,
        "commit": commit(),
        "backend": backend,
        "instruction_set": cpu_backend.instruction_set(),
        "allocator": warm_heap.describe(),
        "page_faults_of_a_64_MiB_tensor": faults_of_a_tensor(),
        "hidden_width": HIDDEN,
    }
