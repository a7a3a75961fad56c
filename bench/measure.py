"""One group from tensors to rows: build, check, time, and say what the times mean."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from statistics import median, quantiles
from typing import Any

import torch

from bench.correctness import WrongResultError, check, check_results
from bench.device import DEVICES
from bench.groups import MORE_RIVALS, UNITS, Group, is_compiled
from bench.rivals import forget_compiled
from bench.timing import Measured
from bench.variants import another_problem, make_problem, make_variant

_CUDA, _TRITON = "csta_fast-cuda", "csta_fast-triton"


def measure(
    group: Group,
    names: Iterable[str],
    backend: str | None,
    seconds: float,
    stage: Callable[[str], None] = lambda text: None,
) -> Measured:
    """Check every named variant, then time them in turns.

    A rival that raises, such as one that cannot be compiled, is left out; on a GPU any variant.

    Raises:
        WrongResultError: a variant is wrong; nothing has been timed then.
    """
    device = DEVICES[group.device]
    forget_compiled()
    variants = []
    failed: dict[str, str] = {}
    with device.computing(), torch.set_grad_enabled(group.direction != "forward"):
        stage("making tensors")
        problem = make_problem(group)
        others = [another_problem(group, problem) for _ in range(device.input_sets(group) - 1)]
        for name in names:
            stage(f"checking {name}")
            try:
                variant = make_variant(name, group, problem, backend, others)
                check(variant, problem, group.direction)
            except Exception as error:
                needed = name not in MORE_RIVALS and (name == "copy" or group.device == "cpu")
                if needed or isinstance(error, WrongResultError):
                    raise
                failed[name] = f"{type(error).__name__}: {error}"
                continue
            last = others[-1] if others else problem
            verify = partial(check_results, variant, last, group.direction)
            variants.append(replace(variant, verify=verify))
        measured = device.interleave(group, variants, seconds, stage)
        return replace(measured, failed=failed)


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """The lower quartile, the median and the upper quartile."""
    if len(values) < 2:
        return values[0], values[0], values[0]
    low, middle, high = quantiles(values, n=4, method="inclusive")
    return low, middle, high


def _ratio(measured: Measured, variant: str, base: str) -> tuple[float, float, float]:
    """Median and quartiles of variant over base: of the rounds' ratios where they took turns."""
    times, base_times = measured.seconds[variant], measured.seconds[base]
    if measured.interleaved:
        ratios = [time / base for time, base in zip(times, base_times, strict=True)]
    else:
        typical = median(base_times)
        ratios = [time / typical for time in times]
    low, middle, high = quartiles(ratios)
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
    rivals = [name for name in MORE_RIVALS if name in measured.seconds]
    if rivals and variant != "copy":
        better = min(rivals, key=lambda name: _ratio(measured, name, "copy")[0])
        information["rivals"] = rivals
        information["better_rival"] = better
        information["speedup"] = 1 / _ratio(measured, variant, better)[0]
    if group.device == "cuda":
        information |= _on_gpu(group, measured, variant)
    if group.lengths and variant == "csta_fast":
        information["of_padded"] = _ratio(measured, variant, "padded")[0]
    return information


def _on_gpu(group: Group, measured: Measured, variant: str) -> dict[str, Any]:
    """What is recorded there besides: how it was launched, memory, and the better compiler."""
    information: dict[str, Any] = {
        "x_megabytes": group.bytes_of_x / 1e6,
        "median_microseconds": 1e6 * median(measured.seconds[variant]),
    }
    if group.section == "gpu_small":
        information["setting"] = "replayed" if group.replay else "called in a loop"
    if group.direction == "step" and variant != "copy":
        information["peak_in_x"] = measured.peak_bytes[variant] / group.bytes_of_x
    compiled = [name for name in measured.seconds if is_compiled(name)]
    if compiled and variant != "copy":
        ratios = [_ratio(measured, variant, name)[0] for name in compiled]
        information["speedup_of_compiled"] = 1 / max(ratios)
    if variant == _CUDA and _TRITON in measured.seconds:
        information["speedup_of_triton"] = 1 / _ratio(measured, variant, _TRITON)[0]
    return information
