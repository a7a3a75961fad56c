"""Shows which group is being measured, and how far it has come."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn


class Display:
    """A bar over the tests on a terminal; one line per group in a log."""

    def __init__(self, config: pytest.Config) -> None:
        self._capture = config.pluginmanager.getplugin("capturemanager")
        self.done = 0  # tests
        self.total = 0

    @contextmanager
    def measuring(self, group: str) -> Iterator[Callable[[str], None]]:
        """Show the group's name, and behind it whatever stage the block reports."""
        with self._capture.global_and_fixture_disabled():
            console = Console(stderr=True)
            if console.is_terminal:
                with self._bar(console) as bar:
                    task = bar.add_task(
                        group, total=max(self.total, 1), completed=self.done, stage=""
                    )
                    yield lambda stage: bar.update(task, stage=stage)
            else:
                print(f"\n[{self.done}/{self.total}] {group} ", end="", file=sys.stderr)
                sys.stderr.flush()
                yield lambda stage: None

    @staticmethod
    def _bar(console: Console) -> Progress:
        return Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[stage]}"),
            console=console,
            transient=True,
        )
