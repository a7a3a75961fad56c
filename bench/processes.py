"""Runs commands with a time limit each, their output in files, and shows how far they are."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

_LOOK_SECONDS = 0.2
_LAST_WORDS = 100


@dataclass(frozen=True, slots=True)
class Command:
    """One process of the GPU command."""

    words: tuple[str, ...]
    log: str  # file in the result folder
    limit: float  # seconds
    environment: Mapping[str, str] = field(default_factory=dict)

    def text(self) -> str:
        """As a shell would take it."""
        settings = [f"{name}={shlex.quote(value)}" for name, value in self.environment.items()]
        words = ["python" if word == sys.executable else word for word in self.words]
        return " ".join([*settings, shlex.join(words)])


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended."""

    command: Command
    status: int | None  # None: it was stopped at its time limit
    seconds: float
    output: str

    @property
    def red(self) -> bool:
        return self.status != 0

    @property
    def last_line(self) -> str:
        lines = [line for line in self.output.splitlines() if line.strip()]
        return lines[-1].strip() if lines else ""


class _Running:
    """A process, and the file that its output goes to."""

    def __init__(self, command: Command, folder: Path, cwd: Path) -> None:
        self.command = command
        self.path = folder / command.log
        self.started = time.monotonic()
        self.file: IO[bytes] = self.path.open("wb")
        try:
            self.process = subprocess.Popen(
                command.words, cwd=cwd, env={**os.environ, **command.environment},
                stdin=subprocess.DEVNULL, stdout=self.file, stderr=subprocess.STDOUT,
                start_new_session=True,
            )  # fmt: skip
        except OSError:
            self.file.close()
            raise

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started

    def poll(self) -> Ended | None:
        """How it ended, or None while it runs; stopped with its children at its limit."""
        status = self.process.poll()
        if status is None and self.seconds < self.command.limit:
            return None
        if status is None:
            self.stop()
        self.file.close()
        output = self.path.read_text(errors="replace")
        return Ended(self.command, status, self.seconds, output)

    def stop(self) -> None:
        with suppress(ProcessLookupError):  # it may just have ended
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def last_words(self) -> str:
        with self.path.open("rb") as file:
            file.seek(max(0, self.path.stat().st_size - 4096))
            lines = file.read().decode(errors="replace").splitlines()
        return next((line.strip() for line in reversed(lines) if line.strip()), "")[:_LAST_WORDS]


def run(
    title: str, commands: Sequence[Command], folder: Path, cwd: Path, console: Console
) -> list[Ended]:
    """Run commands side by side; one line shows what the latest of them says."""
    with Progress(
        SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn(),
        TextColumn("{task.fields[words]}"), console=console, transient=True,
        disable=not console.is_terminal,
    ) as progress:  # fmt: skip
        shown = progress.add_task(title, total=None, words="")
        running: list[_Running] = []
        ended: dict[int, Ended] = {}
        try:
            for command in commands:
                running.append(_Running(command, folder, cwd))
            while len(ended) < len(commands):
                time.sleep(_LOOK_SECONDS)
                for index, each in enumerate(running):
                    if index not in ended and (end := each.poll()) is not None:
                        ended[index] = end
                waiting = [each for index, each in enumerate(running) if index not in ended]
                progress.update(shown, words=waiting[0].last_words() if waiting else "")
        finally:
            for each in running:
                if each.process.poll() is None:
                    each.stop()
    return [ended[index] for index in range(len(commands))]
