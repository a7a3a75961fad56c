"""Shows the group that is being measured, and every row once it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Column

from bench.present import Row, line


class Display:
    """Rows as lines; below them, on a terminal, a bar over the tests that fits 80 columns."""

    def __init__(self, config: pytest.Config) -> None:
        self._plugin = config.pluginmanager.getplugin  # not all are there yet
        self.done = 0  # tests
        self.total = 0

    def begin(self, total: int) -> None:
        """So many tests follow; rows stand alone, without pytest's names of files."""
        self.total = total
        self._plugin("terminalreporter").showfspath = False

    @contextmanager
    def measuring(self, group: str) -> Iterator[Callable[[str], None]]:
        """Show the group's name, and on a terminal whatever stage the block reports."""
        self._write(f"[{self.done}/{self.total}] {group}")
        with self._plugin("capturemanager").global_and_fixture_disabled():
            console = Console(stderr=True)
            if not console.is_terminal:
                yield lambda stage: None
                return
            with bar(console) as progress:
                task = progress.add_task(
                    "", total=max(self.total, 1), completed=self.done, stage=""
                )
                yield lambda stage: progress.update(task, stage=stage)

    def show(self, row: Row) -> None:
        self._write(line(row))

    def _write(self, text: str) -> None:
        reporter = self._plugin("terminalreporter")
        with self._plugin("capturemanager").global_and_fixture_disabled():
            reporter.ensure_newline()
            reporter.write_line(text)
            reporter.flush()


def bar(console: Console) -> Progress:
    """One line, whatever a stage is called."""
    return Progress(
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[stage]}", table_column=Column(no_wrap=True, max_width=36)),
        console=console,
        transient=True,
    )
