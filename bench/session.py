"""What one pytest run of the benches shares: options, progress, measured groups, rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias, TypeVar, cast

import pytest
import torch
from rich import box
from rich.console import Console
from rich.table import Table

from bench import present, warm_heap
from bench.alone import ChildError
from bench.correctness import WrongResultError
from bench.progress import Display
from csta_fast import library
from csta_fast.backends import BACKENDS, select

_TABLE_WIDTH = 170

Result = TypeVar("Result")
Stage: TypeAlias = Callable[[str], None]


class Session:
    """One run. A group is measured when its first test asks, and remembered, failure included."""

    def __init__(self, config: pytest.Config) -> None:
        self.backend: str | None = config.getoption("--backend", default=None)
        self.all_rivals: bool = config.getoption("--rivals", default="default") == "all"
        self.seconds: float = config.getoption("--seconds", default=3.0)
        self.display = Display(config)
        self.rows: list[dict[str, Any]] = []
        self._outcomes: dict[str, Any] = {}
        if self.backend is not None and self.backend not in BACKENDS:
            raise pytest.UsageError(f"--backend: wanted one of {', '.join(BACKENDS)}")

    def require_backend(self) -> None:
        """Stop the run where it would take plain PyTorch for csta_fast."""
        if self.backend != "reference" and library.failure is not None:
            pytest.exit(
                f"csta_fast: {library.failure}. To measure plain PyTorch: --backend=reference",
                returncode=pytest.ExitCode.USAGE_ERROR,
            )

    def once(self, key: str, measure: Callable[[Stage], Result]) -> Result:
        """What the first call for that key measured; a failure fails every test that asks."""
        if key not in self._outcomes:
            with self.display.measuring(key) as stage:
                try:
                    self._outcomes[key] = measure(stage)
                except Exception as error:
                    self._outcomes[key] = error
        outcome = self._outcomes[key]
        if isinstance(outcome, (WrongResultError, ChildError)):
            pytest.fail(f"no times for {key}: {outcome}", pytrace=False)
        if isinstance(outcome, Exception):
            raise outcome
        return cast(Result, outcome)

    @property
    def serving(self) -> str:
        """The name of the backend that is measured."""
        return select(torch.empty(1, 1, 1, 1), self.backend).name

    def header(self) -> list[str]:
        return [
            f"csta_fast: backend {self.serving}, instruction set {library.instruction_set()}, "
            f"allocator {warm_heap.describe()}"
        ]

    def tables(self) -> str:
        """One table per section, as text for the end of the run."""
        console = Console(width=_TABLE_WIDTH, highlight=False)
        with console.capture() as captured:
            for section in dict.fromkeys(row["section"] for row in self.rows):
                rows = [row for row in self.rows if row["section"] == section]
                columns = present.columns_of(rows)
                table = Table(title=section, title_justify="left", box=box.SIMPLE_HEAD)
                for column in columns:
                    table.add_column(column.title, justify=column.justify, no_wrap=True)
                for row, below in zip(rows, [*rows[1:], rows[-1]], strict=True):
                    ends = present.subject(below) != present.subject(row)
                    table.add_row(*(column.cell(row) for column in columns), end_section=ends)
                console.print(table)
        return captured.get()
