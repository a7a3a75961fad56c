"""The README's table: what the layer reaches, shape by shape, on the machine that was measured."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from bench.present import Row, speedup_columns

_MARKED = re.compile(r"(<!-- benchmarks:begin -->\n).*?(<!-- benchmarks:end -->)", re.DOTALL)
_DIRECTIONS = ("forward", "backward", "step")


def headline(rows: Sequence[Row]) -> str:
    """One line per float32 shape and direction, of a chapter's rows from a machine at rest."""
    chosen = [
        row
        for direction in _DIRECTIONS
        for row in rows
        if row["variant"] == "csta_fast" and row["section"] == direction and not row.get("noisy")
    ]
    speedups = speedup_columns(chosen, ".1f")
    titles = ["(N, C, T, V)", "direction", "time", "copies", *(each.title for each in speedups)]
    lines = [titles, ["---"] * 2 + ["---:"] * (2 + len(speedups))]
    for row in chosen:
        shape = f"({', '.join(map(str, row['shape']))})"
        time = f"{1000 * row['median_seconds']:.1f} ms"
        ratios = [f"{row['copies']:.2f}", *(each.cell(row) for each in speedups)]
        lines.append([shape, row["section"], time, *ratios])
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def fill(readme: Path, machine: str, table: str) -> None:
    """Put the table between the README's marks."""
    text = (
        f"{table}\nfloat32, {machine}. All figures, and the goals they miss: "
        "[docs/benchmarks.md](docs/benchmarks.md).\n"
    )
    readme.write_text(_MARKED.sub(lambda marks: marks[1] + text + marks[2], readme.read_text()))
