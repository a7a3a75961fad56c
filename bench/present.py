"""How a recorded row reads: the columns that the closing tables and the report share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from bench.goals import goals_of

Row: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Column:
    title: str
    cell: Callable[[Row], str]
    justify: Literal["left", "right"] = "right"


def seconds_text(seconds: float) -> str:
    """Three digits with the unit that suits them."""
    for factor, unit in ((1, "s"), (1e3, "ms"), (1e6, "µs")):
        if seconds * factor >= 1:
            return f"{seconds * factor:#.3g}".rstrip(".") + f" {unit}"
    return f"{seconds * 1e9:.0f} ns"


def subject(row: Row) -> str:
    """What a row is about, its variant apart."""
    words = [str(tuple(row["shape"])), row["dtype"], row["direction"]]
    if row.get("channels_last"):
        words.append("channels-last")
    if row.get("setting"):
        words.append(row["setting"])
    return ", ".join(words)


def _number(key: str, form: str) -> Callable[[Row], str]:
    return lambda row: format(row[key], form) if row.get(key) is not None else ""


def _copies(row: Row) -> str:
    if "copies" not in row:
        return ""
    low, high = row["copies_quartiles"]
    noisy = "~" if row.get("noisy") else ""
    return f"{noisy}{row['copies']:.2f} [{low:.2f}-{high:.2f}]"


def _goals(row: Row) -> str:
    return ", ".join(goal.text(row) for goal in goals_of(row))


_COLUMNS = (
    ("variant", Column("subject", subject, "left")),
    ("variant", Column("variant", lambda row: row["variant"], "left")),
    ("x_megabytes", Column("x, MB", _number("x_megabytes", ".1f"))),
    ("median_seconds", Column("median", lambda row: seconds_text(row["median_seconds"]))),
    ("gigabytes_per_second", Column("GB/s", _number("gigabytes_per_second", ".1f"))),
    ("percent_of_limit", Column("% of limit", _number("percent_of_limit", ".0f"))),
    ("copies", Column("copies", _copies)),
    ("speedup", Column("× better rival", _number("speedup", ".2f"))),
    (
        "speedup_of_compiled",
        Column("× better compile", _number("speedup_of_compiled", ".2f")),
    ),
    ("of_padded", Column("of padded", _number("of_padded", ".2f"))),
    (
        "above_base_microseconds",
        Column("above base, µs", _number("above_base_microseconds", ".1f")),
    ),
    ("clips_per_second", Column("clips/s", _number("clips_per_second", ".0f"))),
    ("of_hcn", Column("of HCN's time", _number("of_hcn", ".2f"))),
    ("peak_in_x", Column("peak, × x", _number("peak_in_x", ".2f"))),
    ("kept_percent", Column("kept for backward, % of x", _number("kept_percent", ".3f"))),
)
_GOALS = Column("goal: reach (after)", _goals, "left")


def columns_of(rows: Sequence[Row]) -> list[Column]:
    """The columns that at least one of the rows fills."""
    columns = [column for key, column in _COLUMNS if any(key in row for row in rows)]
    return [*columns, _GOALS] if any(goals_of(row) for row in rows) else columns
