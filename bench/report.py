"""Turns files of results into docs/benchmarks.md, its pictures and the README's table.

    pytest bench/ --benchmark-only --results=results.json
    python -m bench.report results.json

Several files of one machine are parts of one measurement, and a newer file's figure replaces an
older one's. Files of several machines (told apart by processor and backend) get a chapter each.
"""

from __future__ import annotations

import argparse
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench import present, records
from bench.goals import GOALS, Goal, goals_of
from bench.groups import SHORT_SHAPES, UNITS, is_own
from bench.headline import fill, headline

DOCS = Path(__file__).parent.parent / "docs"

_INTRODUCTION = """\
# Benchmarks

Written by `python -m bench.report`; measure your machine with the two commands in its help.

The unit is a **copy**: the time of `y.copy_(x)` on the same tensor, in the same round. A forward
cannot read and write less than a copy does, a step moves 2.5 times as much
([definition](definition.md), Traffic). Percent of the limit is the layer's unavoidable traffic per
second over the copy's. It can pass 100: a copy's ordinary stores first read the lines that they
overwrite, the layer's do not. Figures are medians of rounds in which all variants of a table took
turns, in brackets the middle half of the rounds; `~` marks a figure from a machine that was
never quiet. Both heads have width 16. A table with a wrong result in it would have no figures.

A column "× …" names the rivals that its rows were measured against. "eager" is the layer in six
plain lines; "torch.compile" is those lines compiled, "max-autotune" with the mode
`max-autotune-no-cudagraphs`; of several settings the better one counts. The lines hold no
convolution, so `torch._inductor.config.layout_optimization` changes nothing in them.
"""

_SECTIONS = {
    "forward": "Forward, kernels under `no_grad`, float32.",
    "backward": "The backward alone, its forward outside the clock.",
    "step": "Forward and backward through autograd, with the gradients of x and of all weights.",
    "half": "bfloat16 and float16; a copy is one of the same dtype.",
    "channels_last": "float32 in channels-last memory.",
    "small": "Latency, each variant alone in a process of its own; order and company change such "
    "figures, so ratios here are of medians.",
    "lengths": "A batch padded to 300 frames, 75 of them real on average: told of the lengths, "
    "the layer neither reads nor scores the rest. `padded` is the layer without being told.",
    "allocator": "The same call under other allocator settings. By default glibc returns every "
    "large tensor to the system and faults its pages in again at the next call, which costs more "
    "than the layer. The copy here writes into memory that it has already.",
    "networks": "Whole networks on clips (N, 3, T, V, M) in channels-last memory, Adam in a step: "
    "HCN without attention, and CSTA-CNN with the layer after conv1 of both streams, as eager "
    "PyTorch and fused. What attention costs is the last column's distance from 1. "
    "`csta_fast-persons` is told that every fifth clip shows two persons and the others one.",
    "memory": "One step: its peak beyond x, the upstream gradient and the weights (y and the "
    "gradient of x are 2 × x), and what is kept from forward to backward.",
    "overhead": "A call on one element under `no_grad`.",
    "field": "Shapes of published models.",
    "samples": "Cost against the number of samples.",
    "frames": "Cost against the number of frames, at a constant number of elements.",
    "gpu": "On a GPU, with nothing that is read or written left in its L2 cache by earlier calls; "
    "short calls are timed inside a CUDA graph ([how](gpu.md)). The peak is of the memory that a "
    "step allocates. Goals of bandwidth are for x of 64 MB or more.",
    "gpu_small": "Single samples on a GPU: replayed by a CUDA graph, and called one by one, where "
    "the host's part in every call is what counts.",
    "gpu_field": "The other shapes of published models, on a GPU.",
    "smoke": "A tensor small enough for continuous integration; no figure to rely on.",
}

_ALLOCATOR_ADVICE = """
To have the fast rows: start Python with `MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=17179869184`
(glibc keeps what it has; memory use stays at its peak), or with `THP_MEM_ALLOC_ENABLE=1` (PyTorch
asks for huge pages, 512 times fewer faults); or preload an allocator that keeps memory, such as
jemalloc or tcmalloc. Not both of the first two: at the shape above they get on, but a heap that had
held other sizes before was seen to fall apart and to fault pages in at every call.
"""


@dataclass(slots=True)
class Chapter:
    """Everything measured on one machine."""

    machine: dict[str, Any]
    rows: dict[str, present.Row] = field(default_factory=dict)  # by identity

    @property
    def title(self) -> str:
        return str(self.machine.get("gpu") or self.machine.get("cpu", "unknown machine"))

    def of(self, section: str) -> list[present.Row]:
        return [row for row in self.rows.values() if row["section"] == section]


def load(paths: Sequence[Path]) -> list[Chapter]:
    """Chapters of the given files, in order of appearance; newer figures replace older ones."""
    files = [records.read(path) for path in paths]
    chapters = {_chapter_key(each): Chapter({}) for each in files}
    for each in sorted(files, key=lambda each: each.when):
        chapter = chapters[_chapter_key(each)]
        chapter.machine = each.machine | {"date": each.when[:10]}
        commit = each.machine.get("commit", "unknown")
        chapter.rows |= {records.identity(row): row | {"commit": commit} for row in each.rows}
    for chapter in chapters.values():
        commits = dict.fromkeys(row["commit"] for row in chapter.rows.values())
        chapter.machine["commit"] = ", ".join(commits)
    return list(chapters.values())


def _chapter_key(file: records.Records) -> tuple[Any, ...]:
    return tuple(file.machine.get(name) for name in ("gpu", "cpu", "threads", "backend"))


def table(titles: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[bool]) -> str:
    rule = ["---:" if is_right else "---" for is_right in right]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (titles, rule, *rows)) + "\n"


def _machine(chapter: Chapter) -> str:
    names = {key: key.replace("_", " ") for key in chapter.machine}
    rows = [[names[key], f"{value}"] for key, value in chapter.machine.items()]
    return table(["machine", ""], rows, [False, False])


def _section(rows: Sequence[present.Row]) -> str:
    columns = present.columns_of(rows)
    lines, above = [], None
    for row in rows:
        cells = [column.cell(row) for column in columns]
        subject = present.subject(row)
        if subject == above:
            cells[0] = ""
        above = subject
        if is_own(row["variant"]):
            cells[1:] = [f"**{cell}**" if cell else "" for cell in cells[1:]]
        lines.append(cells)
    return table(
        [column.title for column in columns], lines, [c.justify == "right" for c in columns]
    )


def _verdict(goal: Goal, rows: Sequence[present.Row]) -> list[str]:
    values = sorted((row[goal.measure] for row in rows), reverse=not goal.at_least)
    reached = sum(goal.met(row) for row in rows)
    after = sum(goal.met(row, goal.after) for row in rows) if goal.after else None
    doubt = "~" if any(row.get("noisy") for row in rows) else ""
    return [
        goal.name,
        goal.bound_text(),
        f"{doubt}{values[0]:.2f}",
        f"{doubt}{values[-1]:.2f}",
        f"{reached} of {len(rows)}",
        "" if after is None else f"{after} of {len(rows)}",
    ]


def goal_table(chapter: Chapter) -> str:
    """Every goal that something measured is judged by, and how it stands."""
    lines = []
    for goal in GOALS:
        rows = [row for row in chapter.rows.values() if goal in goals_of(row)]
        if rows:
            lines.append(_verdict(goal, rows))
    titles = ["goal", "reach (after)", "worst", "best", "reached by", "after reached by"]
    return table(titles, lines, [False, False, True, True, True, True])


def backend_table(chapter: Chapter) -> str:
    """Which backend was faster at what, where more than one was measured; the order's evidence."""
    groups: dict[str, list[present.Row]] = {}
    for row in chapter.rows.values():
        if row["variant"].startswith("csta_fast-"):
            groups.setdefault(f"{present.subject(row)}, {row['section']}", []).append(row)
    lines, first = [], 0
    for rows in groups.values():
        if len(rows) < 2:
            continue
        best, next_best = sorted(rows, key=lambda row: row["median_seconds"])[:2]
        ahead = next_best["median_seconds"] / best["median_seconds"]
        doubt = "~" if best.get("noisy") else ""
        first += best is rows[0]
        lines.append([
            present.subject(best),
            *(present.seconds_text(row["median_seconds"]) for row in rows),
            f"{best['variant'].partition('-')[2]}, {doubt}{ahead:.2f} ×",
        ])  # fmt: skip
    if not lines:
        return ""
    names = [row["variant"].partition("-")[2] for row in max(groups.values(), key=len)]
    text = table(["measured", *names, "faster, by"], lines, [False, *[True] * len(names), False])
    return f"{names[0]} was the faster one in {first} of {len(lines)}.\n\n{text}"


def render(chapters: Sequence[Chapter], pictures: Sequence[str | None]) -> str:
    """The page, with one picture per chapter where there are pictures."""
    parts = [_INTRODUCTION]
    for chapter, picture in zip(chapters, pictures, strict=True):
        parts += [f"## {chapter.title}\n", _machine(chapter)]
        parts += ["### Goals\n", goal_table(chapter)]
        if backends := backend_table(chapter):
            parts += ["### Backends\n", backends]
        if picture is not None:
            parts += [f"![Bandwidth of every variant against the copy's]({picture})\n"]
        for section, text in _SECTIONS.items():
            rows = chapter.of(section)
            if rows:
                title = section.replace("_", " ").capitalize().replace("Gpu", "GPU")
                parts += [f"### {title}\n", text + "\n", _section(rows)]
                parts += [_ALLOCATOR_ADVICE] if section == "allocator" else []
    return "\n".join(parts)


def draw_all(chapters: Sequence[Chapter], folder: Path) -> list[str | None]:
    """Draw every chapter's picture; their names, None where matplotlib is not installed."""
    if importlib.util.find_spec("matplotlib") is None:
        return [None] * len(chapters)
    from bench.roofline import draw

    names = [f"benchmarks{f'-{index}' if index else ''}.svg" for index in range(len(chapters))]
    for chapter, name in zip(chapters, names, strict=True):
        draw(list(chapter.rows.values()), folder / name)
    return list(names)


def draw_short(chapter: Chapter, path: Path = DOCS / "speed.svg") -> None:
    """The README's picture: few shapes of each direction, float32."""
    from bench.roofline import draw

    rows = [row for row in chapter.rows.values() if tuple(row["shape"]) in SHORT_SHAPES]
    draw([row for row in rows if row["section"] in UNITS], path)


def main(arguments: Sequence[str] | None = None) -> None:
    from bench import __doc__ as how_to_measure

    parser = argparse.ArgumentParser(
        prog="python -m bench.report",
        description=__doc__,
        epilog=how_to_measure,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("results", nargs="+", type=Path, help="files of --results")
    parser.add_argument("--output", type=Path, default=DOCS, help="folder (default: docs)")
    options = parser.parse_args(arguments)
    try:
        chapters = load(options.results)
    except ValueError as error:
        parser.error(str(error))
    options.output.mkdir(parents=True, exist_ok=True)
    pictures = draw_all(chapters, options.output)
    (options.output / "benchmarks.md").write_text(render(chapters, pictures))
    print(f"wrote benchmarks.md and {', '.join(filter(None, pictures)) or 'no picture'}")
    if options.output == DOCS and chapters and pictures[0]:
        draw_short(chapters[0])
    processors = [chapter for chapter in chapters if "gpu" not in chapter.machine]
    if options.output == DOCS and processors:
        first = processors[0]
        machine = f"{first.title}, {first.machine['threads']} threads"
        fill(DOCS.parent / "README.md", machine, headline(list(first.rows.values())))
        print("filled the table of README.md")


if __name__ == "__main__":
    main()
