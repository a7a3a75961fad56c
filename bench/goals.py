"""The goals: what each figure must reach, what is hoped for after that, and who is judged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bench.gpu_groups import LARGE_MEGABYTES, LATENCY_SHAPE
from bench.groups import is_own

Row = dict[str, Any]

_BOTH = "the better of eager and torch.compile"
_FEW_CHANNELS = 3
_LONG_BACKWARD = [256, 16]  # C, T
_AHEAD_OF_COMPILERS = ([128, 64, 64, 25], [128, 256, 16, 25])


@dataclass(frozen=True, slots=True)
class Goal:
    """One line of the table of goals, over the csta_fast rows that ``judges`` picks."""

    name: str
    measure: str  # key of the row
    judges: Callable[[Row], bool]
    reach: float
    after: float | None = None
    at_least: bool = False

    def met(self, row: Row, bound: float | None = None) -> bool:
        bound = self.reach if bound is None else bound
        value = row[self.measure]
        return bool(value >= bound if self.at_least else value <= bound)

    def bound_text(self) -> str:
        sign = "≥" if self.at_least else "≤"
        return f"{sign} {self.reach:g}" + (f" ({self.after:g})" if self.after else "")

    def text(self, row: Row) -> str:
        doubt = "~" if row.get("noisy") else ""
        return f"{doubt}{'met' if self.met(row) else 'MISSED'} {self.bound_text()}"


def _in(section: str, direction: str, few_channels: bool | None = None) -> Callable[[Row], bool]:
    def judges(row: Row) -> bool:
        return (
            row["section"] == section
            and row["direction"] == direction
            and few_channels in (None, row["shape"][1] <= _FEW_CHANNELS)
        )

    return judges


def _long(row: Row) -> bool:
    return bool(row["shape"][1:3] == _LONG_BACKWARD)


def _backward(long: bool) -> Callable[[Row], bool]:
    inside = _in("backward", "backward", few_channels=False)
    return lambda row: inside(row) and _long(row) is long


def _beside_compiler(judges: Callable[[Row], bool]) -> Callable[[Row], bool]:
    """Of rows whose rivals include both: a goal against two is not judged by one."""
    return lambda row: {"eager", "compile"} <= {*row.get("rivals", ())} and judges(row)


def _of(backend: str, judges: Callable[[Row], bool]) -> Callable[[Row], bool]:
    return lambda row: row["variant"] == f"csta_fast-{backend}" and judges(row)


def _large_on_gpu(direction: str) -> Callable[[Row], bool]:
    inside = _in("gpu", direction)
    return lambda row: inside(row) and row["x_megabytes"] >= LARGE_MEGABYTES


def _on_gpu(row: Row) -> bool:
    return bool(row["section"].startswith("gpu"))


def _ahead_of_compilers(row: Row) -> bool:
    contiguous = not row.get("channels_last")
    return _in("gpu", "step")(row) and contiguous and row["shape"] in _AHEAD_OF_COMPILERS


def _latency(row: Row) -> bool:
    """What the GPU needs for a small call, the host's part left out."""
    inside = _in("gpu_small", "forward")
    return inside(row) and row["timed"] == "graph" and row["shape"] == list(LATENCY_SHAPE)


GOALS = (
    Goal("forward, C ≥ 64", "copies", _in("forward", "forward", False), 1.05, 0.85),
    Goal("forward, C = 3", "copies", _in("forward", "forward", True), 1.3, 1.1),
    Goal("backward, C ≥ 64", "copies", _backward(long=False), 2.0, 1.6),
    Goal("backward, C = 256, T = 16", "copies", _backward(long=True), 2.3, 1.6),
    Goal("step, C ≥ 64", "copies", _in("step", "step", False), 3.0, 2.6),
    Goal("step, C = 3", "copies", _in("step", "step", True), 3.6, 2.6),
    Goal(f"forward × {_BOTH}", "speedup", _beside_compiler(_in("forward", "forward")),
         2.25, 3, True),
    Goal(f"step × {_BOTH}", "speedup", _beside_compiler(_in("step", "step")),
         3.3, 4, True),
    Goal(f"published models × {_BOTH}", "speedup",
         _beside_compiler(lambda row: row["section"] == "field"), 1, None, True),
    Goal("16-bit forward", "copies", _in("half", "forward"), 1.3, 1.1),
    Goal("16-bit backward", "copies", _in("half", "backward"), 2.4, 2.0),
    Goal("channels-last forward", "copies", _in("channels_last", "forward"), 1.2, 1.0),
    Goal("channels-last backward", "copies", _in("channels_last", "backward"), 1.8, 1.6),
    Goal(f"small forward × {_BOTH}", "speedup", _beside_compiler(_in("small", "forward")),
         3, None, True),
    Goal(f"small step × {_BOTH}", "speedup", _beside_compiler(_in("small", "step")),
         2.5, None, True),
    Goal("step with NTU lengths, of padded", "of_padded", _in("lengths", "step"), 0.35),
    Goal("kept for backward, % of x", "kept_percent", _in("memory", "step"), 0.5, 0.2),
    Goal("peak of a step, × x beyond inputs", "peak_in_x", _in("memory", "step"), 2.05),
    Goal("overhead of a call, µs", "above_base_microseconds",
         lambda row: row["section"] == "overhead", 8),
    Goal("cuda forward, x of 64 MB or more, % of copy", "percent_of_limit",
         _of("cuda", _large_on_gpu("forward")), 90, None, True),
    Goal("cuda step, x of 64 MB or more, % of copy", "percent_of_limit",
         _of("cuda", _large_on_gpu("step")), 85, None, True),
    Goal("cuda step × torch.compile", "speedup_of_compiled",
         _of("cuda", _ahead_of_compilers), 2, None, True),
    Goal("cuda × triton", "speedup_of_triton", _of("cuda", _on_gpu), 1, None, True),
    Goal("cuda forward of (2, 64, 64, 25), µs of the GPU", "median_microseconds",
         _of("cuda", _latency), 10),
    Goal("triton forward, x of 64 MB or more, % of copy", "percent_of_limit",
         _of("triton", _large_on_gpu("forward")), 85, None, True),
    Goal("triton step, x of 64 MB or more, % of copy", "percent_of_limit",
         _of("triton", _large_on_gpu("step")), 80, None, True),
    Goal("triton step × torch.compile", "speedup_of_compiled",
         _of("triton", _ahead_of_compilers), 1.5, None, True),
    Goal("GPU, published models × torch.compile", "speedup_of_compiled", _on_gpu,
         1, None, True),
)  # fmt: skip


def goals_of(row: Row) -> list[Goal]:
    """The goals that a row is judged by; only csta_fast is judged."""
    judged = is_own(row["variant"]) or row["variant"] == "functional.csta"
    return [goal for goal in GOALS if judged and goal.measure in row and goal.judges(row)]
