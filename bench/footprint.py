"""Memory of one training step: its peak above what it was given, and what waits for backward."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from bench.groups import Group
from bench.rivals import forget_compiled
from bench.variants import differentiable, layer_named, make_problem

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_RESET_PEAK = "5"


def available() -> bool:
    """Whether this system tells, and can reset, the peak of resident memory."""
    return _STATUS.exists() and _CLEAR.exists()


def _resident(key: str) -> int:
    lines = _STATUS.read_text().splitlines()
    line = next(line for line in lines if line.startswith(key))
    return int(line.split()[1]) * 1024


def footprint(group: Group, name: str, backend: str | None) -> dict[str, float]:
    """Bytes of one step beyond x, its upstream gradient and the weights.

    Resident memory is what counts, whoever allocated it. It needs an allocator that returns
    freed tensors to the system, as the default one does, and tensors far above a page.

    Returns:
        peak_bytes: the most resident at once during forward and backward;
        least_bytes: y and the gradient of x, which a step cannot do without;
        kept_bytes: saved for backward beyond x and the weights;
        x_bytes; seconds.
    """
    forget_compiled()
    problem = make_problem(group)
    x, frame_head, joint_head = differentiable(problem)
    leaves = (x, *frame_head, *joint_head)
    given = {leaf.untyped_storage().data_ptr() for leaf in leaves}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in given:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    layer = layer_named(name, backend)

    def step() -> Any:
        with saved_tensors_hooks(keep, lambda tensor: tensor):
            y = layer(x, frame_head, joint_head)
        waiting = sum(kept.values())
        gradients = torch.autograd.grad(y, leaves, problem.grad_y)
        return waiting, y, gradients

    for _ in range(2):
        step()
        kept.clear()
    _CLEAR.write_text(_RESET_PEAK)
    before, start = _resident("VmRSS"), time.perf_counter()
    waiting, *_results = step()
    return {
        "seconds": time.perf_counter() - start,
        "peak_bytes": _resident("VmHWM") - before,
        "least_bytes": 2 * group.bytes_of_x,
        "kept_bytes": waiting,
        "x_bytes": group.bytes_of_x,
    }
