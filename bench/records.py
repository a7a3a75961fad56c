"""Files of results: the machine, and a table of medians and quartiles for every section.

    {"machine_info": {"cpu": ...}, "datetime": "2026-11-28T05:11:29+00:00", "sections": {
    "forward": {"columns": ["direction", "shape", ..., "median_seconds", ...], "rows": [
    ["forward", [384, 64, 64, 25], ..., 0.010437, ...],
    ...]},
    ...}}

The rounds' times are not kept. Files of ``--benchmark-json`` are read as well.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

Row: TypeAlias = dict[str, Any]

_DIGITS = 5  # no median is known any better
_IDENTITY = ("section", "direction", "shape", "dtype", "channels_last", "setting", "variant")


class Records(NamedTuple):
    """The content of one file."""

    machine: dict[str, Any]
    when: str  # ISO 8601
    rows: list[Row]


def identity(row: Row) -> str:
    """Key of a measurement: of two rows with the same key the newer replaces the older."""
    return json.dumps([row.get(key) or None for key in _IDENTITY])


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.{_DIGITS}g}")
    return [_rounded(each) for each in value] if isinstance(value, list | tuple) else value


def _table(rows: Sequence[Row]) -> str:
    """A column for every key; flags that are not set are left out."""
    filled = [{key: each for key, each in row.items() if each is not False} for row in rows]
    columns = list(dict.fromkeys(key for row in filled for key in row if key != "section"))
    lines = (json.dumps([_rounded(row.get(key)) for key in columns]) for row in filled)
    return f'{{"columns": {json.dumps(columns)}, "rows": [\n' + ",\n".join(lines) + "]}"


def write(
    path: Path, machine: Mapping[str, Any], rows: Iterable[Row], when: str | None = None
) -> None:
    """Replace the file as a whole, so that a run that is stopped never leaves a part of it."""
    sections: dict[str, list[Row]] = {}
    for row in rows:
        sections.setdefault(row["section"], []).append(row)
    when = when or datetime.now(timezone.utc).isoformat(timespec="seconds")
    head = json.dumps({"machine_info": machine, "datetime": when})[:-1]
    tables = ",\n".join(f"{json.dumps(name)}: {_table(some)}" for name, some in sections.items())
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f"{path.name}.fresh")
    fresh.write_text(f'{head}, "sections": {{\n{tables}}}}}\n')
    fresh.replace(path)


def _rows(found: dict[str, Any]) -> list[Row]:
    if "sections" not in found:
        return [dict(each["extra_info"]) for each in found["benchmarks"]]
    rows = []
    for section, table in found["sections"].items():
        for values in table["rows"]:
            pairs = zip(table["columns"], values, strict=True)
            rows.append({"section": section} | {k: v for k, v in pairs if v is not None})
    return rows


def read(path: Path) -> Records:
    """A file that ``write`` or ``--benchmark-json`` wrote.

    Raises:
        ValueError: it is missing, or is no such file.
    """
    try:
        found = json.loads(path.read_text())
        return Records(dict(found["machine_info"]), str(found["datetime"]), _rows(found))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"results: wanted files of --results, got {path} ({error})") from error
