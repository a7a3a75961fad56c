"""A run says how long it takes, shows what it measures, and keeps it when it is stopped."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from bench import records
from bench.duration import Bench, duration
from bench.groups import GROUPS, QUICK, SMALL_GROUPS
from bench.present import line
from bench.progress import bar

ROOT = Path(__file__).resolve().parents[2]


def _benches(keys: tuple[str, ...]) -> list[Bench]:
    parameters = [
        {"group": key, "variant": name} for key in keys for name in GROUPS[key].variants()
    ]
    return [Bench.of(each) for each in parameters]


def test_compiling_counts_in_the_estimate() -> None:
    benches = [Bench(("a",), name) for name in ("copy", "csta_fast")]
    assert duration(benches, 3) < duration([*benches, Bench(("a",), "eager")], 3)
    assert duration([*benches, Bench(("a",), "compile")], 3) > duration(benches, 3) + 5
    assert duration([*benches, Bench(("b",), "copy")], 3) > duration(benches, 3) + 3


def test_quick_takes_two_minutes_and_sees_every_kind() -> None:
    assert 60 < duration(_benches(QUICK), 1) < 180
    chosen = [GROUPS[key] for key in QUICK]
    assert {group.section for group in chosen} == {
        "forward", "backward", "step", "half", "channels_last",
    }  # fmt: skip
    assert any(group.shape[1] == 3 for group in chosen)


def test_rows_fit_80_columns() -> None:
    row = {"variant": "csta_fast-persons", "median_seconds": 0.1234, "copies": 100.0,
           "noisy": True, "speedup": 10.0, "better_rival": "max-autotune"}  # fmt: skip
    assert len(line(row)) <= 80
    assert len(line({"variant": "one_aten_op", "median_seconds": 1e-6})) <= 80
    assert max(len(f"[1000/1000] {key}") for key in (*GROUPS, *SMALL_GROUPS)) <= 80


def test_the_bar_fits_80_columns() -> None:
    written = io.StringIO()
    console = Console(file=written, width=80, force_terminal=True)
    progress = bar(console)
    progress.add_task("", total=1264, completed=1000, stage="checking csta_fast-persons " * 5)
    console.print(progress.get_renderable())
    shown = written.getvalue().rstrip("\n")
    assert "checking" in shown
    assert "\n" not in shown


def test_a_run_that_is_stopped_leaves_what_it_measured(tmp_path: Path) -> None:
    """Without a terminal, too; Ctrl-C comes once the first row is there."""
    results = tmp_path / "folder" / "results.json"
    words = [sys.executable, "-m", "pytest", "bench", "--benchmark-only", "-p", "no:cacheprovider"]
    words += ["--section=smoke", "--backend=reference", f"--results={results}"]
    words += ["-k", "smoke-forward or smoke-step"]
    # Under xdist this test's process says so to its children, which then measure nothing.
    outside = {name: value for name, value in os.environ.items() if "XDIST" not in name}
    run = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True, env=outside)
    assert run.stdout is not None
    said = []
    for text in run.stdout:
        said.append(text)
        if text.startswith("    csta_fast"):
            run.send_signal(signal.SIGINT)
            break
    said.append(run.stdout.read())
    assert run.wait(60) == pytest.ExitCode.INTERRUPTED
    before, _, after = "".join(said).partition("    csta_fast")
    assert "about 1 min" in before
    assert str(results) in before
    assert "    eager" in before
    assert "subject" in after  # the closing table
    assert "python -m bench.report" in after
    rows = records.read(results).rows
    assert [row["variant"] for row in rows][:3] == ["copy", "eager", "csta_fast"]
    assert f"{len(rows)} of " in after


def test_benches_hold_no_tests_of_their_harness() -> None:
    sources = {path.name: path.read_text() for path in (ROOT / "bench").glob("test_*.py")}
    assert sources
    for name, source in sources.items():
        assert source.count("\ndef test_") == source.count("record: Callable"), name
