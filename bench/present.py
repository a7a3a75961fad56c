"""How a recorded row reads: the columns that the closing tables and the report share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from bench.goals import goals_of
from bench.groups import is_own

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


def line(row: Row) -> str:
    """A row in at most 80 columns, for the moment when it has been measured."""
    words = f"    {row['variant']:<20} {seconds_text(row['median_seconds']):>8}"
    if "copies" in row:
        words += f"  {row['copies']:6.2f} copies{' (noisy)' if row.get('noisy') else ''}"
    if is_own(row["variant"]) and "speedup" in row:
        words += f"  {row['speedup']:.2f} × {row['better_rival']}"
    return words


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


def rivals_text(rivals: Sequence[str]) -> str:
    """The rivals that a ratio was measured against; several settings of the compiler are one."""
    settings = len([name for name in rivals if name != "eager"])
    compiled = "torch.compile" + (f" ({settings} settings)" if settings > 1 else "")
    names = ["eager"] * ("eager" in rivals) + [compiled] * (settings > 0)
    return f"the better of {' and '.join(names)}" if len(names) > 1 else names[0]


def speedup_columns(rows: Sequence[Row], form: str = ".2f") -> list[Column]:
    """A column for every set of rivals, so that no row stands under a rival that it lacks."""

    def column(rivals: tuple[str, ...]) -> Column:
        def cell(row: Row) -> str:
            return _number("speedup", form)(row) if tuple(row.get("rivals", ())) == rivals else ""

        return Column(f"× {rivals_text(rivals)}", cell)

    return [column(each) for each in dict.fromkeys(
        tuple(row["rivals"]) for row in rows if "speedup" in row and "rivals" in row
    )]  # fmt: skip


_SPEEDUPS = "speedup"  # these columns follow from the rows
_COLUMNS = (
    ("variant", Column("subject", subject, "left")),
    ("variant", Column("variant", lambda row: row["variant"], "left")),
    ("x_megabytes", Column("x, MB", _number("x_megabytes", ".1f"))),
    ("median_seconds", Column("median", lambda row: seconds_text(row["median_seconds"]))),
    ("gigabytes_per_second", Column("GB/s", _number("gigabytes_per_second", ".1f"))),
    ("percent_of_limit", Column("% of limit", _number("percent_of_limit", ".0f"))),
    ("copies", Column("copies", _copies)),
    _SPEEDUPS,
    ("speedup_of_compiled", Column("× torch.compile", _number("speedup_of_compiled", ".2f"))),
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
    columns: list[Column] = []
    for each in _COLUMNS:
        if isinstance(each, str):
            columns += speedup_columns(rows)
        elif any(each[0] in row for row in rows):
            columns.append(each[1])
    return [*columns, _GOALS] if any(goals_of(row) for row in rows) else columns
