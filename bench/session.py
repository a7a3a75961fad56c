"""What one pytest run of the benches shares: options, progress, measured groups, rows."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from textwrap import wrap
from typing import Any, TypeAlias, TypeVar, cast

import pytest
from rich import box
from rich.console import Console
from rich.table import Table

from bench import present, records
from bench.alone import ChildError
from bench.correctness import WrongResultError
from bench.device import DEVICES
from bench.duration import Bench, duration
from bench.progress import Display
from bench.timing import Measured
from csta_fast.backends import BACKENDS

_TABLE_WIDTH, _TITLE_WIDTH = 200, 13
_SECONDS, _QUICK_SECONDS = 3.0, 1.0  # of measuring a group

Result = TypeVar("Result")
Stage: TypeAlias = Callable[[str], None]


class Session:
    """One run. A group is measured when its first test asks, and remembered, failure included."""

    def __init__(self, config: pytest.Config) -> None:
        self.backend: str | None = config.getoption("--backend", default=None)
        self.device = DEVICES[config.getoption("--device", default="cpu")]
        self.rivals: str = config.getoption("--rivals", default="default")
        quick = config.getoption("--quick", default=False)
        seconds: float | None = config.getoption("--seconds", default=None)
        default_seconds = _QUICK_SECONDS if quick else _SECONDS
        self.seconds = default_seconds if seconds is None else seconds
        self.budget: float | None = config.getoption("--budget", default=None)
        self._started = time.monotonic()
        self.display = Display(config)
        self.rows: list[dict[str, Any]] = []
        now = datetime.now().strftime("%Y%m%d-%H%M%S")
        default = config.rootpath / "results" / f"bench-{now}.json"
        self.results: Path = config.getoption("--results", default=None) or default
        self._machine: dict[str, Any] | None = None
        self._outcomes: dict[str, Any] = {}
        if self.backend is not None and self.backend not in BACKENDS:
            raise pytest.UsageError(f"--backend: wanted one of {', '.join(BACKENDS)}")

    def require_backend(self) -> None:
        """Stop the run where it would take plain PyTorch for csta_fast."""
        missing = self.device.missing(self.backend)
        if missing is not None:
            pytest.exit(f"csta_fast: {missing}", returncode=pytest.ExitCode.USAGE_ERROR)

    def once(self, key: str, measure: Callable[[Stage], Result]) -> Result:
        """What the first call for that key measured; a failure fails every test that asks."""
        if key not in self._outcomes:
            self._skip_when_time_is_up()
            with self.display.measuring(key) as stage:
                try:
                    self._outcomes[key] = measure(stage)
                except Exception as error:
                    # It is remembered, and must not keep the tensors of its group with it.
                    traceback.clear_frames(error.__traceback__)
                    self._outcomes[key] = error
        outcome = self._outcomes[key]
        if isinstance(outcome, (WrongResultError, ChildError)):
            pytest.fail(f"no times for {key}: {outcome}", pytrace=False)
        if isinstance(outcome, Exception):
            raise outcome
        return cast(Result, outcome)

    def times(self, measured: Measured, variant: str) -> list[float]:
        """A variant's times; a test of one that was left out fails with the reason."""
        if variant in measured.failed:
            pytest.fail(f"no times of {variant}: {measured.failed[variant]}", pytrace=False)
        return measured.seconds[variant]

    def _skip_when_time_is_up(self) -> None:
        if self.budget is not None and time.monotonic() - self._started > self.budget:
            pytest.skip(f"not measured: the {self.budget:g} s of --budget are over")

    def keep(self, row: dict[str, Any]) -> None:
        """Write all rows so far, then show this one: a run that is stopped leaves what it shows."""
        self.rows.append(row)
        if self._machine is None:
            self._machine = self.device.describe(self.backend)
        records.write(self.results, self._machine, self.rows)
        self.display.show(row)

    def plan(self, benches: Sequence[Bench]) -> list[str]:
        """How long they will take, and where their figures go."""
        if not benches:
            return []
        minutes = max(1, round(duration(benches, self.seconds) / 60))
        return [
            f"about {minutes} min where nothing else runs; Ctrl-C keeps what there is",
            f"figures, as they come: {self.results}",
        ]

    def end(self) -> str:
        """Where the figures are, and what can be made of them."""
        if not self.rows:
            return ""
        words = f"python -m bench.report {self.results} --output results"
        return f"{len(self.rows)} of {self.display.total} measured. A report of them:\n{words}\n"

    def header(self) -> list[str]:
        return [self.device.header(self.backend)]

    def tables(self) -> str:
        """One table per section, as text for the end of the run."""
        console = Console(width=_TABLE_WIDTH, highlight=False)
        with console.capture() as captured:
            for section in dict.fromkeys(row["section"] for row in self.rows):
                rows = [row for row in self.rows if row["section"] == section]
                columns = present.columns_of(rows)
                table = Table(title=section, title_justify="left", box=box.SIMPLE_HEAD)
                for column in columns:
                    title = "\n".join(wrap(column.title, _TITLE_WIDTH, break_long_words=False))
                    table.add_column(title, justify=column.justify, no_wrap=True)
                for row, below in zip(rows, [*rows[1:], rows[-1]], strict=True):
                    ends = present.subject(below) != present.subject(row)
                    table.add_row(*(column.cell(row) for column in columns), end_section=ends)
                console.print(table)
        return captured.get()
