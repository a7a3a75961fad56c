"""A figure is compared with what was measured beside it, and with nothing else."""

from __future__ import annotations

import json
import subprocess
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx

from bench import headline, present, publish, records, report, rivals
from bench.groups import GROUPS, SMALL_GROUPS, Group
from bench.measure import row as row_of
from bench.timing import Measured
from bench.variants import _variant, make_problem

ROOT = Path(__file__).resolve().parents[2]


def _row(direction: str, *rivals: str, **more: Any) -> present.Row:
    measured = Measured({"copy": [1.0], **{name: [4.0] for name in rivals}, "csta_fast": [2.0]})
    group = Group(direction, direction, (2, 3, 4, 5))  # type: ignore[arg-type]
    return row_of(group, measured, "csta_fast") | {"median_seconds": 2.0} | more


@pytest.mark.parametrize(
    ("rivals", "title"),
    [
        (("eager",), "× eager"),
        (("compile",), "× torch.compile"),
        (("eager", "compile"), "× the better of eager and torch.compile"),
        (
            ("eager", "compile", "max-autotune"),
            "× the better of eager and torch.compile (2 settings)",
        ),
    ],
)
def test_a_title_names_the_rivals_that_were_measured(rivals: tuple[str, ...], title: str) -> None:
    rows = [_row("forward", *rivals)]
    (column,) = present.speedup_columns(rows)
    assert column.title == title
    assert column.cell(rows[0]) == "2.00"
    assert title in [each.title for each in present.columns_of(rows)]
    assert title in headline.headline(rows).splitlines()[0]


def test_rows_of_different_rivals_get_columns_of_their_own() -> None:
    rows = [_row("forward", "eager", "compile"), _row("backward", "eager")]
    both, eager = present.speedup_columns(rows)
    assert (both.cell(rows[0]), both.cell(rows[1])) == ("2.00", "")
    assert (eager.cell(rows[0]), eager.cell(rows[1])) == ("", "2.00")
    lines = headline.headline(rows).splitlines()
    assert lines[0].endswith("× the better of eager and torch.compile | × eager |")
    assert lines[2].endswith("| 2.0 |  |")
    assert lines[3].endswith("|  | 2.0 |")


def test_the_order_of_turns_makes_no_column() -> None:
    rows = [_row("forward", *names) for names in (("eager", "compile"), ("compile", "eager"))]
    assert len(present.speedup_columns(rows)) == 1


def test_no_rivals_no_column() -> None:
    rows = [_row("forward")]
    assert "×" not in "".join(each.title for each in present.columns_of(rows))


def test_a_goal_against_both_is_not_judged_by_one() -> None:
    def goals(*names: str) -> list[str]:
        return [goal.measure for goal in present.goals_of(_row("forward", *names))]

    assert "speedup" in goals("eager", "compile")
    assert "speedup" not in goals("eager")


def test_a_panel_says_what_of_the_legend_it_lacks() -> None:
    pytest.importorskip("matplotlib")
    from bench.roofline import title

    drawn = {"copy", "eager", "compile", "csta_fast", "csta_fast-cuda"}
    rows = [{"variant": name} for name in ("copy", "eager", "csta_fast")]
    assert title("backward", rows, drawn) == "backward, float32 (without torch.compile)"
    assert title("backward", [*rows, {"variant": "compile"}], drawn) == "backward, float32"


def test_the_compiler_is_a_rival_wherever_kernels_are_compared() -> None:
    """Not where seconds count (smoke), nor where only the allocator is looked at."""
    without = {
        group.section
        for group in (*GROUPS.values(), *SMALL_GROUPS.values())
        if "compile" not in group.variants()
    }
    assert without == {"smoke"}
    assert "compile" in GROUPS["smoke-backward-32x16x16x25-float32"].variants()
    assert "max-autotune" in GROUPS["half-backward-768x64x64x25-bfloat16"].variants("all")


def test_a_backward_is_timed_without_its_forward() -> None:
    calls = []
    group = Group("smoke", "backward", (2, 3, 4, 5))

    def layer(*arguments: Any) -> torch.Tensor:
        calls.append("forward")
        return rivals.eager(*arguments)

    variant = _variant("compile", layer, make_problem(group), "backward")
    for _ in range(2):
        assert variant.prepare is not None
        variant.prepare()
        before = len(calls)
        assert len(variant.call()) == 9  # x, and four weights of each head
        assert len(calls) == before
    assert len(calls) == 2


def test_the_rivals_lines_hold_no_convolution() -> None:
    """Else the compiler's layout_optimization would be a setting to measure as well."""
    problem = make_problem(Group("smoke", "step", (2, 3, 4, 5)))

    def step(x: torch.Tensor) -> torch.Tensor:
        y = rivals.eager(x, problem.frame_head, problem.joint_head)
        return torch.autograd.grad(y.sum(), x)[0]

    graph = make_fx(step)(problem.x.requires_grad_()).graph
    names = {str(node.target) for node in graph.nodes}
    assert any("bmm" in name for name in names)
    assert not any("conv" in name for name in names)


def test_files_hold_medians_and_quartiles(tmp_path: Path) -> None:
    rows = [_row("forward", "eager", noisy=noisy, shape=[1, 2, 3, size])
            for size, noisy in ((4, True), (5, False))]  # fmt: skip
    path = tmp_path / "new" / "results.json"
    records.write(path, {"cpu": "some CPU"}, rows)
    found = records.read(path)
    assert found.machine == {"cpu": "some CPU"}
    kept = [{key: value for key, value in row.items() if value is not False} for row in rows]
    assert found.rows == [{k: v for k, v in row.items() if v is not None} for row in kept]
    assert [path.name] == [each.name for each in path.parent.iterdir()]


def test_newer_figures_replace_older_ones(tmp_path: Path) -> None:
    """Whichever file is named first; the commits of what is left are told."""
    for name, when, copies in (("a", "2026-02-01", 1.5), ("b", "2026-01-01", 2.5)):
        rows = [_row("forward", copies=copies), _row(f"{'step' if name == 'b' else 'forward'}")]
        machine = {"cpu": "one", "commit": name}
        records.write(tmp_path / f"{name}.json", machine, rows[: 1 + (name == "b")], when)
    for names in ("ab", "ba"):
        (chapter,) = report.load([tmp_path / f"{name}.json" for name in names])
        assert [row["copies"] for row in chapter.of("forward")] == [1.5]
        assert len(chapter.of("step")) == 1
        assert set(chapter.machine["commit"].split(", ")) == {"a", "b"}
        assert chapter.machine["date"] == "2026-02-01"


_RESULTS = sorted((ROOT / "bench" / "results").glob("cpu-*.json"))


@pytest.mark.parametrize("path", _RESULTS, ids=lambda path: path.stem)
def test_recorded_files_are_short(path: Path) -> None:
    assert "sections" in json.loads(path.read_text())
    rows = records.read(path).rows
    assert path.stat().st_size < 300 * len(rows) + 2000
    lists = [value for row in rows for value in row.values() if isinstance(value, list)]
    assert max(map(len, lists)) <= 5
    assert all("rivals" in row for row in rows if "speedup" in row)


def test_documents_are_made_of_the_recorded_files(tmp_path: Path) -> None:
    name = "cpu-zen4-2-cores"
    assert publish.main([name, "--render", "--output", str(tmp_path)]) == 0
    made = (tmp_path / "benchmarks.md").read_text()
    assert made == (ROOT / "docs" / "benchmarks.md").read_text()
    first = report.load(publish.inputs(name))[0]
    assert headline.headline(list(first.rows.values())) in (ROOT / "README.md").read_text()


def test_publishing_measures_everything_against_every_rival(tmp_path: Path) -> None:
    words = publish.command("here", ["--seconds=1"], tmp_path)
    assert words[1:4] == ["-m", "pytest", "bench"]
    assert {"--full", "--rivals=all", f"--results={tmp_path / 'here.json'}"} <= {*words}
    assert words[-1] == "--seconds=1"
    run = partial(publish.main, ["here", "--render", "--results", str(tmp_path)])
    with pytest.raises(SystemExit):
        run()


def test_the_repository_stays_small() -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("no repository")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    files = [ROOT / name for name in listed.stdout.split("\0") if name]
    assert sum(path.stat().st_size for path in files if path.exists()) < 2_500_000
