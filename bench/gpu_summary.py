"""What came of a run of ``python -m bench.gpu``: how each step ended, and the short table."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import present
from bench.gpu_calls import WRONG
from bench.gpu_steps import SANITIZER, all_results
from bench.gpu_watch import RED
from bench.groups import is_own
from bench.processes import Ended
from bench.report import Chapter, backend_table, goal_table, load, table

NO_SANITIZER = f"{SANITIZER} is not on PATH: nothing was watched"

_COUNTS = re.compile(r"(\d+) (passed|failed|skipped|errors?)\b")
_GAVE_UP = "does not serve any more"  # of the warning of csta_fast.backends.triton
#: What compute-sanitizer finds: its first line on it.
_FOUND = re.compile(r"^=+ (?:Error|Warning|Invalid|Uninitialized|Barrier|Program hit)\b.*", re.M)
_WORDS = {True: "green", False: "RED", None: "skipped"}


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a step ended; ``green`` is None where it was not run."""

    step: str
    green: bool | None
    seconds: float
    note: str

    def text(self) -> str:
        return f"{self.step:20} {_WORDS[self.green]:8} {self.seconds:5.0f} s  {self.note}"


def join_logs(folder: Path, ended: Sequence[Ended], name: str) -> None:
    """The logs of processes that ran side by side, as one file; what failed stands first."""
    worst_first = sorted(ended, key=lambda each: not each.red)
    parts = [f"{each.command.text()}\n\n{each.output}" for each in worst_first]
    (folder / name).write_text("\n".join(parts))
    for each in ended:
        (folder / each.command.log).unlink()


def _counts(outputs: Sequence[Ended]) -> dict[str, int]:
    """How many tests passed, failed and so on, from the last lines of pytest's."""
    counts: dict[str, int] = {}
    for each in outputs:
        for number, word in _COUNTS.findall(each.last_line):
            word = word.rstrip("s") if word == "errors" else word
            counts[word] = counts.get(word, 0) + int(number)
    return counts


def _said(ended: Sequence[Ended]) -> str:
    counts = _counts(ended)
    words = [f"{number} {word}" for word, number in counts.items()]
    stopped = sum(each.status is None for each in ended)
    if stopped:
        words.append(f"{stopped} of {len(ended)} stopped at {ended[0].command.limit:g} s")
    return ", ".join(words) or (ended[0].last_line if ended else "")


def tests(step: str, ended: Sequence[Ended]) -> Outcome:
    """Green only if something passed, and passed on the kernels.

    A suite that skips everything has shown nothing, nor has a backend that handed its calls on to
    plain PyTorch because its kernels did not compile.
    """
    gave_up = any(_GAVE_UP in each.output for each in ended)
    green = not any(each.red for each in ended) and _counts(ended).get("passed", 0) > 0
    note = _said(ended) + "; kernels did not compile, see the log" * gave_up + _first_red(ended)
    return Outcome(step, green and not gave_up, max(each.seconds for each in ended), note)


def _first_red(ended: Sequence[Ended]) -> str:
    """The first failure with its message."""
    red = [line for each in ended for line in each.output.splitlines() if line.startswith(RED)]
    return f"; first of {len(red)} red: {red[0].removeprefix(RED)}" if red else ""


def sanitizer(tool: str, ended: Sequence[Ended]) -> Outcome:
    """What a tool says of each backend; why, where it is red."""
    said = []
    for each in ended:
        backend = each.command.log.removesuffix(".txt").rpartition("-")[2]
        stopped = f"stopped at {each.command.limit:g} s; " if each.status is None else ""
        wrong = [line for line in each.output.splitlines() if line.startswith(WRONG)]
        found = _FOUND.search(each.output)
        why = f" ({found.group().strip()})" if found else f" ({wrong[0]})" if wrong else ""
        said.append(f"{backend}: {stopped}{each.last_line}{why if each.red else ''}")
    seconds = max(each.seconds for each in ended)
    return Outcome(f"sanitizer, {tool}", not any(each.red for each in ended), seconds,
                   "; ".join(said))  # fmt: skip


def bench(ended: Ended) -> Outcome:
    green = not ended.red and _counts([ended]).get("passed", 0) > 0
    return Outcome("bench", green, ended.seconds, _said([ended]) + _first_red([ended]))


def _table(chapter: Chapter) -> str:
    """One line for each thing that csta_fast was measured at."""
    lines = []
    for row in chapter.rows.values():
        if not is_own(row["variant"]):
            continue
        ahead = row.get("speedup_of_compiled")
        lines.append([
            present.subject(row),
            row["variant"],
            present.seconds_text(row["median_seconds"]),
            f"{row['percent_of_limit']:.0f}",
            "" if ahead is None else f"{ahead:.2f}",
        ])  # fmt: skip
    titles = ["measured", "variant", "median", "% of copy", "× torch.compile"]
    return table(titles, lines, [False, False, True, True, True])


def write(folder: Path, outcomes: Sequence[Outcome]) -> str:
    """Write summary.md, of this run's steps and of all results in the folder; its text."""
    steps = [[o.step, _WORDS[o.green], f"{o.seconds:.0f} s", o.note] for o in outcomes]
    parts = ["# GPU\n", _machine(folder), table(["step", "", "time", ""], steps, [False] * 4)]
    for chapter in load(all_results(folder)):
        parts += [f"## {chapter.title}, commit {chapter.machine.get('commit')}\n"]
        parts += [goal_table(chapter), backend_table(chapter), _table(chapter)]
    text = "\n".join(parts)
    (folder / "summary.md").write_text(text)
    return text


def _machine(folder: Path) -> str:
    machine = json.loads((folder / "machine.json").read_text())
    names = ("gpu", "driver", "torch", "cuda", "triton", "commit")
    return ", ".join(f"{name} {machine.get(name, 'unknown')}" for name in names) + "\n"
