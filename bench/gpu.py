"""The one command for a machine with a GPU: are the kernels right there, and how fast are they?

    python -m bench.gpu --output results/gpu

It needs this repository and torch, triton, pytest, pytest-benchmark, hypothesis, numpy and rich,
no network and nothing built. Three steps, each with its own time limit:

contract    the test suite's contract on every backend that computes on a GPU
sanitizer   every operation on small inputs under compute-sanitizer's memcheck, racecheck,
            initcheck and synccheck, where that is on PATH
bench       pytest bench --device=cuda, against a copy, eager PyTorch and torch.compile

Nothing is timed after a red contract: wrong kernels have no speed. The folder then holds
machine.json, contract.txt, sanitizer-*.txt, bench.json with what was printed in bench.txt,
benchmarks.md, and summary.md, which is also printed last. The exit status is 0 if all is green, 1
if anything is red, 2 if there is no GPU.

Where a command may only run for ten minutes, run the steps one by one into the same folder:

    python -m bench.gpu --output results/gpu --steps contract
    python -m bench.gpu --output results/gpu --steps sanitizer
    python -m bench.gpu --output results/gpu --steps bench --shapes 128x64x64x25 512x64x64x25
    python -m bench.gpu --output results/gpu --steps bench --sections gpu_small

Benches of a later run join those that are there, and replace those of the same name. The first run
compiles every kernel; Triton keeps them in its cache folder.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
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
    add("--workers", type=int, default=0, help="contract: processes (one a processor, at most 8)")
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
    for step, what in (("contract", ""), ("sanitizer", " of each tool"), ("bench", "")):
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
    groups = {
        "machine": [gpu_steps.machine(choices.folder)],
        "contract": gpu_steps.contract(choices),
        "sanitizer": gpu_steps.sanitizer(choices),
        "bench": [gpu_steps.bench(choices), gpu_steps.report(choices.folder, with_next=True)],
    }
    for step, commands in groups.items():
        if step in ("machine", *choices.steps):
            together = ", side by side" if step == "contract" else ""
            print(f"# {step}: at most {commands[0].limit:g} s each{together}")
            for command in commands:
                print(f"{command.text()} > {choices.folder / command.log}")
            if step == "sanitizer" and len(commands) == 1:
                print(f"# {gpu_summary.NO_SANITIZER}")


class Run:
    """One run: its folder, its console, and how its steps ended."""

    def __init__(self, choices: Choices, console: Console) -> None:
        self.choices = choices
        self.console = console
        self.outcomes: list[Outcome] = []

    def _run(self, title: str, commands: Sequence[processes.Command]) -> list[processes.Ended]:
        return processes.run(title, commands, self.choices.folder, _REPOSITORY, self.console)

    def _note(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)
        self.console.print(outcome.text(), highlight=False, markup=False)

    def machine(self) -> str | None:
        """Write machine.json; why there is none, or None."""
        (ended,) = self._run("machine", [gpu_steps.machine(self.choices.folder)])
        return ended.last_line if ended.red else None

    def contract(self) -> None:
        ended = self._run("contract", gpu_steps.contract(self.choices))
        gpu_summary.join_logs(self.choices.folder, ended, "contract.txt")
        self._note(gpu_summary.contract(ended))

    def sanitizer(self) -> None:
        commands = gpu_steps.sanitizer(self.choices)
        for command in commands:
            name = command.log.removesuffix(".txt")
            self._note(gpu_summary.sanitizer(name, self._run(name, [command])[0]))
        if len(commands) == 1:
            self._note(Outcome("sanitizer", None, 0.0, gpu_summary.NO_SANITIZER))

    def bench(self) -> None:
        if any(each.step == "contract" and each.green is False for each in self.outcomes):
            self._note(Outcome("bench", None, 0.0, "not run: the contract is red"))
            return
        self._note(gpu_summary.bench(self._run("bench", [gpu_steps.bench(self.choices)])[0]))
        if gpu_steps.all_results(self.choices.folder):
            (ended,) = self._run("report", [gpu_steps.report(self.choices.folder)])
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
    text = gpu_summary.write(choices.folder, run.outcomes)
    console.print(text, highlight=False, markup=False, soft_wrap=True)
    return int(any(each.green is False for each in run.outcomes))


if __name__ == "__main__":
    sys.exit(main())
