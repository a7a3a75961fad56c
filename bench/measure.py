"""One group from tensors to rows: build, check, time, and say what the times mean."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from statistics import median, quantiles
from typing import Any

import torch

from bench.correctness import check
from bench.groups import UNITS, Group
from bench.timing import Measured, interleave
from bench.variants import make_problem, make_variant

OWN = ("csta_fast", "padded")


def measure(
    group: Group,
    names: Iterable[str],
    backend: str | None,
    seconds: float,
    stage: Callable[[str], None] = lambda text: None,
) -> Measured:
    """Check every named variant, then time them in turns.

    Raises:
        WrongResultError: a variant is wrong; nothing has been timed then.
    """
    stage("making tensors")
    problem = make_problem(group)
    variants = []
    with torch.set_grad_enabled(group.direction != "forward"):
        for name in names:
            stage(f"checking {name}")
            variant = make_variant(name, group, problem, backend)
            check(variant, problem, group.direction)
            variants.append(variant)
        return interleave(variants, seconds, stage)


def _ratio(measured: Measured, variant: str, base: str) -> tuple[float, float, float]:
    """Median and quartiles of variant over base: of the rounds' ratios where they took turns."""
    times, base_times = measured.seconds[variant], measured.seconds[base]
    if measured.interleaved:
        ratios = [time / base for time, base in zip(times, base_times, strict=True)]
    else:
        typical = median(base_times)
        ratios = [time / typical for time in times]
    if len(ratios) < 2:
        return ratios[0], ratios[0], ratios[0]
    low, middle, high = quantiles(ratios, n=4, method="inclusive")
    return middle, low, high


def row(group: Group, measured: Measured, variant: str) -> dict[str, Any]:
    """What is recorded beside a variant's times."""
    copies, low, high = _ratio(measured, variant, "copy")
    units = UNITS["forward" if variant == "copy" else group.direction]
    information: dict[str, Any] = {
        "section": group.section,
        "direction": group.direction,
        "shape": list(group.shape),
        "dtype": group.dtype,
        "channels_last": group.channels_last,
        "variant": variant,
        "threads": torch.get_num_threads(),
        "copies": copies,
        "copies_quartiles": [low, high],
        **measured.conditions(),
    }
    reads_all = not (group.lengths and variant == "csta_fast")
    if reads_all:
        seconds = median(measured.seconds[variant])
        information["gigabytes_per_second"] = units * group.bytes_of_x / seconds / 1e9
        information["percent_of_limit"] = 100 * (units / UNITS["forward"]) / copies
    rivals = [name for name in measured.seconds if name not in ("copy", *OWN)]
    if rivals and variant != "copy":
        better = min(rivals, key=lambda name: _ratio(measured, name, "copy")[0])
        information["better_rival"] = better
        information["speedup"] = 1 / _ratio(measured, variant, better)[0]
    if group.lengths and variant == "csta_fast":
        information["of_padded"] = _ratio(measured, variant, "padded")[0]
    return information
