"""Every kernel compiles for the GPUs of today, within a budget of registers and shared memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from csta_fast.backends import triton as triton_backend

if triton_backend.unavailable is not None:
    pytest.skip(triton_backend.unavailable, allow_module_level=True)

_SCRIPT = Path(__file__).parents[1] / "support" / "triton_compile.py"

#: Registers of a thread and bytes of shared memory of a block, at the most; nothing may be spilled.
#: With four warps a block, 96 registers let five blocks onto a multiprocessor, 128 four, 168 three.
_BUDGET = {
    "forward_kernel": (96, 8_192),
    "backward_kernel": (128, 8_192),
    "pool_kernel": (128, 8_192),
    "means_kernel": (64, 1_024),
    "pool_backward_kernel": (128, 8_192),
    "outer_kernel": (96, 4_096),
    "add_runs_kernel": (48, 0),
}
_BUDGET_OF_MORE = {  # masks, or groups within a slice
    **_BUDGET, "forward_kernel": (128, 8_192), "backward_kernel": (240, 8_192),
    "pool_backward_kernel": (240, 8_192),
}  # fmt: skip
_BUDGET_OF_DOUBLES = {
    **dict.fromkeys(_BUDGET, (168, 16_384)),
    "add_runs_kernel": (48, 0),
}  # fmt: skip
_FEW = ("plain", "masked", "per_channel", "last", "coordinates")


def _compile(target: str, *names: str, folder: Path) -> list[dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, str(_SCRIPT), target, *names],
        env={**os.environ, "TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


def _budget(configuration: str) -> dict[str, tuple[int, int]]:
    if configuration.startswith("double"):
        return _BUDGET_OF_DOUBLES
    more = configuration in ("masked", "last", "coordinates", "long", "per_channel", "wide")
    return _BUDGET_OF_MORE if more else _BUDGET


def _check(lines: list[dict[str, Any]]) -> None:
    assert {line["kernel"] for line in lines} == set(_BUDGET)
    for line in lines:
        assert line["spilled"] == 0, line
        assert line["dots"] == 0, f"products in TF32: {line}"
        registers, shared = _budget(line["configuration"])[line["kernel"]]
        if not line["target"].startswith("gfx"):  # AMD's threads have more registers, and waves 64
            assert line["registers"] <= registers, line
        assert line["shared"] <= shared, line


def test_plain_calls_compile(tmp_path: Path) -> None:
    lines = _compile("90", "plain", folder=tmp_path)
    _check(lines)
    forward = [line for line in lines if line["kernel"] == "forward_kernel"]
    assert all(line["vectors"] for line in forward), "aligned planes are not moved in whole vectors"


@pytest.mark.slow
@pytest.mark.parametrize("target", ["80", "90", "100", "120", "gfx942"])
def test_every_configuration_compiles(target: str, tmp_path: Path) -> None:
    _check(_compile(target, *(() if target == "90" else _FEW), folder=tmp_path))


@pytest.mark.slow
def test_a_hundred_lengths_are_three_compilations(tmp_path: Path) -> None:
    (counts,) = _compile("90", "lengths", folder=tmp_path)
    # forward_kernel and backward_kernel serve csta and couple, which differ.
    for name, most in {"forward_kernel": 6, "backward_kernel": 6}.items():
        assert counts[name] <= most, counts
    assert all(count <= 3 for name, count in counts.items() if "ward_kernel" not in name), counts
