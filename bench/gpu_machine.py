"""The machine block of a GPU: what a reader must know to compare figures."""

from __future__ import annotations

import platform
import shutil
import subprocess
from importlib import metadata
from typing import Any

import torch

from bench.groups import HIDDEN
from bench.machine import commit, cpu, operating_system
from csta_fast import __version__

_ASKED = {
    "driver": "driver_version",
    "clock_now": "clocks.sm",
    "clock_highest": "clocks.max.sm",
    "memory_clock_highest": "clocks.max.mem",
    "power_limit": "power.limit",
    "mig": "mig.mode.current",
}


def ask_driver(uuid: str) -> dict[str, str]:
    """What nvidia-smi says of this GPU; nothing where it is not installed or does not answer."""
    if shutil.which("nvidia-smi") is None:
        return {}
    query = f"--query-gpu={','.join(_ASKED.values())}"
    command = ["nvidia-smi", query, "--format=csv,noheader", f"--id={uuid}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return {}
    answers = [word.strip() for word in done.stdout.splitlines()[0].split(",")]
    return dict(zip(_ASKED, answers, strict=False))


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def describe(backend: str) -> dict[str, Any]:
    """What stands in the JSON as machine_info and in the report as its table."""
    found = torch.cuda.get_device_properties()
    return {
        "gpu": found.name,
        "capability": f"{found.major}.{found.minor}",
        "multiprocessors": found.multi_processor_count,
        "l2": f"{found.L2_cache_size / 2**20:g} MiB",
        "memory": f"{found.total_memory / 2**30:.1f} GiB",
        **ask_driver(f"GPU-{found.uuid}"),
        "cpu": cpu(),
        "system": operating_system(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda or torch.version.hip,
        "triton": _version("triton"),
        "csta_fast": __version__,
        "commit": commit(),
        "backend": backend,
        "hidden_width": HIDDEN,
    }
