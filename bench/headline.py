"""The README's table: what the layer reaches, shape by shape, on the machine that was measured."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from bench.present import Row

_MARKED = re.compile(r"(<!-- benchmarks:begin -->\n).*?(<!-- benchmarks:end -->)", re.DOTALL)
_DIRECTIONS = ("forward", "backward", "step")


def headline(rows: Sequence[Row]) -> str:
    """One line per float32 shape and direction, of a chapter's rows from a machine at rest."""
    lines = [
        "| (N, C, T, V) | direction | time | copies | × the better of eager and `torch.compile` |",
        "| --- | --- | ---: | ---: | ---: |",
    ]
    for direction in _DIRECTIONS:
        for row in rows:
            ours = row["variant"] == "csta_fast" and row["section"] == direction
            if not ours or row.get("noisy"):
                continue
            shape = f"({', '.join(map(str, row['shape']))})"
            time = f"{1000 * row['median_seconds']:.1f} ms"
            ratios = f"{row['copies']:.2f} | {row['speedup']:.1f}"
            lines.append(f"| {shape} | {direction} | {time} | {ratios} |")
    return "\n".join(lines) + "\n"


def fill(readme: Path, machine: str, table: str) -> None:
    """Put the table between the README's marks."""
    text = (
        f"{table}\nfloat32, {machine}. All figures, and the goals they miss: "
        "[docs/benchmarks.md](docs/benchmarks.md).\n"
    )
    readme.write_text(_MARKED.sub(lambda marks: marks[1] + text + marks[2], readme.read_text()))
