"""The picture: bandwidth of every variant, shape by shape, against the copy's."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.groups import is_own

_PANELS = {
    "forward": "forward, float32",
    "backward": "backward, float32",
    "step": "training step, float32",
    "half": "16-bit",
    "channels_last": "channels-last, float32",
    "gpu": "on a GPU",
}
_STYLES = {  # colours that colour-blind readers tell apart
    "copy": ("copy (the limit)", "#D55E00", "|"),
    "eager": ("eager", "#999999", "s"),
    "compile": ("torch.compile", "#E69F00", "^"),
    "max-autotune": ("max-autotune", "#CC79A7", "v"),
    "csta_fast": ("csta_fast", "#0072B2", "o"),
    "csta_fast-triton": ("csta_fast, Triton", "#0072B2", "o"),
    "csta_fast-cuda": ("csta_fast, CUDA", "#009E73", "D"),
}
#: Text stays text, and the same figures give the same file.
_SVG = {
    "svg.fonttype": "none",
    "svg.hashsalt": "csta_fast",
    "font.sans-serif": ["DejaVu Sans", "Arial"],  # every text repeats the list
}
_NO_METADATA = dict.fromkeys(("Date", "Creator", "Format", "Type"))
_SHORT = {"bfloat16": "bf16", "float16": "fp16", "float32": "fp32"}


def _label(row: dict[str, Any], panel: str) -> str:
    label = " × ".join(map(str, row["shape"]))
    if panel in ("half", "gpu"):
        label += f"  {_SHORT[row['dtype']]}"
    if panel == "gpu" and row.get("channels_last"):
        label += "  channels-last"
    return label if panel in ("forward", "backward", "step") else f"{label}  {row['direction']}"


def title(panel: str, rows: Sequence[Mapping[str, Any]], drawn: Collection[str]) -> str:
    """The panel's name, and which of the legend's rivals it does not show."""
    here = {row["variant"] for row in rows}
    missing = [name for name, _, _ in (_STYLES[each] for each in _STYLES
               if each in drawn and each not in here and not is_own(each))]  # fmt: skip
    return _PANELS[panel] + (f" (without {', '.join(missing)})" if missing else "")


def _panel(axes: Axes, rows: Sequence[dict[str, Any]], panel: str, drawn: Collection[str]) -> None:
    labels = list(dict.fromkeys(_label(row, panel) for row in rows))
    for variant, (name, colour, marker) in _STYLES.items():
        # One call a variant: a picture repeats the shape of a marker for every call.
        points = [(row["gigabytes_per_second"], labels.index(_label(row, panel)))
                  for row in rows if row["variant"] == variant]  # fmt: skip
        if points:
            size, width = (16, 2.5) if marker == "|" else (7, 1)
            axes.plot(*zip(*points, strict=True), marker, color=colour, label=name,
                      markersize=size, markeredgewidth=width)  # fmt: skip
    axes.set_yticks(range(len(labels)), labels, fontsize=9)
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.set_title(title(panel, rows, drawn), loc="left", fontsize=11, fontweight="bold")
    axes.grid(axis="x", color="#DDDDDD")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def draw(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Write one panel per section, on a common axis of gigabytes per second."""
    drawn = {
        panel: chosen
        for panel in _PANELS
        if (chosen := [row for row in rows if row["section"] == panel])
    }
    variants = {row["variant"] for chosen in drawn.values() for row in chosen}
    heights = [len({_label(row, panel) for row in chosen}) + 1 for panel, chosen in drawn.items()]
    figure = Figure(figsize=(9, 1.2 + 0.3 * sum(heights)), layout="constrained")
    grid = figure.subplots(
        max(1, len(drawn)), squeeze=False, sharex=True, height_ratios=heights or None
    )
    handles: dict[str, Any] = {}
    for axes, (panel, chosen) in zip(grid[:, 0], drawn.items(), strict=False):
        _panel(axes, chosen, panel, variants)
        handles |= {line.get_label(): line for line in axes.get_lines()}
    grid[-1, 0].set_xlim(left=0)
    grid[-1, 0].set_xlabel("unavoidable traffic per second, GB/s (more is better)")
    figure.legend(handles.values(), handles.keys(), loc="outside upper center", ncols=5,
                  frameon=False)  # fmt: skip
    with rc_context(_SVG):
        figure.savefig(path, metadata=_NO_METADATA if path.suffix == ".svg" else None)
    if path.suffix == ".svg":
        path.write_text(_shortened(path.read_text()))


def _shortened(svg: str) -> str:
    """The same picture: coordinates to a hundredth of a point, no white space between elements."""
    return re.sub(r">\s+<", "><", re.sub(r"(\d\.\d\d)\d+", r"\1", svg)) + "\n"
