"""The one command behind every figure of the documentation.

    python -m bench.publish cpu-zen4-2-cores

It measures every section with every rival on a machine that nobody else uses, some 80 minutes on
two cores, writes medians and quartiles to bench/results/NAME.json as they come, and makes of all
results there docs/benchmarks.md, its pictures and the table of README.md. The named machine has the
first chapter, and the table is of it.

    python -m bench.publish cpu-zen4-2-cores --render

makes the documents of the results that are there. Further words go to pytest: figures of a part
belong into a file of their own, and replace older ones of the same machine.

    python -m bench.publish cpu-zen4-2-cores-backward --section=backward
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from bench import report

_ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results"


def inputs(name: str, folder: Path = RESULTS) -> list[Path]:
    """Files of results: of the named machine, of other processors, of GPUs."""
    named = sorted(folder.glob(f"{name}*.json"))
    others = [*sorted(folder.glob("cpu-*.json")), *sorted(folder.glob("gpu-*.json"))]
    return [*named, *(path for path in others if path not in named)]


def command(name: str, words: Sequence[str], folder: Path = RESULTS) -> list[str]:
    """The benches of every section and rival."""
    benches = [sys.executable, "-m", "pytest", "bench", "--benchmark-only", "--full"]
    return [*benches, "--rivals=all", f"--results={folder / name}.json", *words]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench.publish",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", help="of the machine: the results are bench/results/NAME.json")
    parser.add_argument("--render", action="store_true", help="measure nothing")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder (bench/results)")
    parser.add_argument("--output", type=Path, default=report.DOCS, help="folder (docs)")
    options, words = parser.parse_known_args(arguments)
    status = 0
    if not options.render:
        status = subprocess.run(command(options.name, words, options.results), cwd=_ROOT).returncode
    found = inputs(options.name, options.results)
    if not found:
        parser.error(f"name: wanted results of {options.name} in {options.results}, got none")
    report.main([*map(str, found), "--output", str(options.output)])
    return status


if __name__ == "__main__":
    sys.exit(main())
