"""The one command for a machine with a GPU: are the kernels right there, and how fast are they?

    python -m bench.gpu --output results/gpu

It needs this repository and torch, triton, pytest, pytest-benchmark, hypothesis, numpy and rich,
no network and nothing built. Four steps, each with its own time limit:

first       what only a GPU can show: launches, streams, clusters, graphs, a second device
contract    the test suite's contract on every backend that computes on a GPU
sanitizer   every operation on small inputs under compute-sanitizer's memcheck, racecheck,
            initcheck and synccheck, where that is on PATH
bench       pytest bench --device=cuda, against a copy, eager PyTorch and torch.compile

A backend that is red before the benches is not timed: wrong kernels have no speed. Red elsewhere
stops nothing: tests of one backend, and calls under a tool, have processes of their own, and where
a kernel takes its process with it, another goes on with the next test. The folder then holds
machine.json, first.txt, contract.txt, sanitizer-*.txt, bench.json with what was printed in
bench.txt, benchmarks.md, and summary.md, which is written after every step and printed last. The
exit status is 0 if all is green, 1 if anything is red, 2 if there is no GPU.

Where a command may only run for ten minutes, run three into the same folder:

    python -m bench.gpu --output results/gpu --steps first,contract
    python -m bench.gpu --output results/gpu --steps sanitizer,bench --rivals none --bench-limit 270
    python -m bench.gpu --output results/gpu --steps bench --select step

Benches of a later run join those that are there, and replace those of the same name. The first run
compiles every kernel; Triton keeps them in its cache folder.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from bench import gpu_steps, gpu_summary, processes
from bench.gpu_groups import SECTIONS
from bench.gpu_steps import STEPS, Choices
from bench.gpu_summary import Outcome

_REPOSITORY = Path(__file__).parent.parent
_NO_GPU = 2


def _choices(arguments: Sequence[str] | None) -> tuple[Choices, bool]:
    parser = argparse.ArgumentParser(
        prog="python -m bench.gpu",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    default = Choices(Path("results/gpu"))
    add = parser.add_argument
    add("--output", type=Path, default=default.folder, help="result folder (results/gpu)")
    add("--steps", default=",".join(STEPS), help="which of them, with commas between (all)")
    add("--dry-run", action="store_true", help="print the commands and run none; needs no GPU")
    add("--quick", action="store_true", help="contract: only the cases that find most mistakes")
    add("--workers", type=int, default=0, help="contract: processes (one a processor, at most 12)")
    add("--sections", nargs="+", default=(), choices=SECTIONS, help="bench: only these")
    add(
        "--shapes",
        nargs="+",
        default=(),
        metavar="NxCxTxV",
        help="bench: only these (of gpu_field: with --full)",
    )
    add("--select", default="", help="bench: a pytest expression, such as 'step and bfloat16'")
    add("--rivals", choices=("default", "none"), default="default",
        help="bench: none leaves out eager and torch.compile, which take longest")  # fmt: skip
    add("--full", action="store_true", help="bench: also the other shapes of published models")
    add("--seconds", type=float, default=default.seconds, help="bench: measuring per group (1)")
    for step, what in (
        ("first", ""), ("contract", ""), ("sanitizer", ", twice that under a tool"), ("bench", ""),
    ):  # fmt: skip
        limit = getattr(default, f"{step}_limit")
        add(f"--{step}-limit", type=float, default=limit, metavar="SECONDS",
            help=f"time limit of {step}{what} ({limit:g})")  # fmt: skip
    options = vars(parser.parse_args(arguments))
    steps = tuple(options["steps"].split(","))
    if unknown := [step for step in steps if step not in STEPS]:
        parser.error(f"--steps: wanted some of {', '.join(STEPS)}, got {', '.join(unknown)}")
    if strange := [shape for shape in options["shapes"] if shape not in gpu_steps.shapes()]:
        known = " ".join(gpu_steps.shapes())
        parser.error(f"--shapes: wanted some of {known}, got {' '.join(strange)}")
    dry = options.pop("dry_run")
    folder = options.pop("output").resolve()
    chosen: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in options.items()
    }
    return Choices(folder, **chosen | {"steps": steps}), dry


def print_commands(choices: Choices) -> None:
    """The commands of a run, with what each may take."""
    groups: dict[str, Sequence[Sequence[processes.Command]]] = {
        "machine": [[gpu_steps.machine(choices.folder)]],
        "first": [_all(gpu_steps.first(choices))],
        "contract": [_all(gpu_steps.contract(choices))],
        "sanitizer": gpu_steps.side_by_side(gpu_steps.sanitizer(choices)),
        "bench": [
            [gpu_steps.bench(choices)],
            [gpu_steps.report(choices.folder, with_next=True)],
        ],
    }
    for step, batches in groups.items():
        if step not in ("machine", *choices.steps):
            continue
        for commands in batches:
            together = f", {len(commands)} side by side" if len(commands) > 1 else ""
            print(f"# {step}: at most {commands[0].limit:g} s{together}")
            for command in commands:
                print(f"{command.text()} > {choices.folder / command.log}")
        if step == "sanitizer" and len(batches) == 1:
            print(f"# {gpu_summary.NO_SANITIZER}")


def _all(commands: Mapping[str, Sequence[processes.Command]]) -> list[processes.Command]:
    return [command for some in commands.values() for command in some]


class Run:
    """One run: its folder, its console, and how its steps ended."""

    def __init__(self, choices: Choices, console: Console) -> None:
        self.choices = choices
        self.console = console
        self.outcomes: list[Outcome] = []
        self.summary = ""
        self.green: dict[str, bool] = {}  # by backend: whether all its tests were

    def _run(self, title: str, commands: Sequence[processes.Command]) -> list[processes.Ended]:
        return processes.run(title, commands, self.choices.folder, _REPOSITORY, self.console)

    def _note(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)
        self.summary = gpu_summary.write(self.choices.folder, self.outcomes)
        self.console.print(outcome.text(), highlight=False, markup=False)

    def machine(self) -> str | None:
        """Write machine.json; why there is none, or None."""
        (ended,) = self._run("machine", [gpu_steps.machine(self.choices.folder)])
        return ended.last_line if ended.red else None

    def first(self) -> None:
        self._tests("first", gpu_steps.first(self.choices))

    def contract(self) -> None:
        self._tests("contract", gpu_steps.contract(self.choices))

    def _tests(self, step: str, parts: Mapping[str, Sequence[processes.Command]]) -> None:
        ended = self._run(step, _all(parts))
        gpu_summary.join_logs(self.choices.folder, ended, f"{step}.txt")
        for backend, commands in parts.items():
            outcome = gpu_summary.tests(
                f"{step}, {backend}", [each for each in ended if each.command in commands]
            )
            self.green[backend] = self.green.get(backend, True) and outcome.green is True
            self._note(outcome)

    def sanitizer(self) -> None:
        tools = gpu_steps.sanitizer(self.choices)
        for batch in gpu_steps.side_by_side(tools):
            ended = self._run("sanitizer", batch)
            for tool, commands in tools.items():
                if own := [each for each in ended if each.command in commands]:
                    gpu_summary.join_logs(self.choices.folder, own, f"sanitizer-{tool}.txt")
                    self._note(gpu_summary.sanitizer(tool, own))
        if len(tools) == 1:
            self._note(Outcome("sanitizer", None, 0.0, gpu_summary.NO_SANITIZER))

    def bench(self) -> None:
        green = [backend for backend, is_green in self.green.items() if is_green]
        if self.green and not green:
            self._note(Outcome("bench", None, 0.0, "not run: every backend is red"))
            return
        only = green[0] if len(green) < len(self.green) else None
        folder = self.choices.folder
        (ended,) = self._run("bench", [gpu_steps.bench(self.choices, only)])
        self._note(gpu_summary.bench(ended))
        if gpu_steps.all_results(folder):
            (ended,) = self._run("report", [gpu_steps.report(folder)])
            self._note(Outcome("report", not ended.red, ended.seconds, ended.last_line))


def main(arguments: Sequence[str] | None = None) -> int:
    choices, dry = _choices(arguments)
    if dry:
        print_commands(choices)
        return 0
    choices.folder.mkdir(parents=True, exist_ok=True)
    console = Console()
    run = Run(choices, console)
    if (reason := run.machine()) is not None:
        console.print(reason, highlight=False, markup=False, soft_wrap=True)
        return _NO_GPU
    for step in STEPS:
        if step in choices.steps:
            getattr(run, step)()
    console.print(run.summary, highlight=False, markup=False, soft_wrap=True)
    return int(any(each.green is False for each in run.outcomes))


if __name__ == "__main__":
    sys.exit(main())
