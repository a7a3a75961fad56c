"""Shows that the test suite notices seeded bugs: ``python tests/mutants/run.py``.

The bugs of the library are compiled into one copy of it, each behind a number that an environment
variable selects; a bug in Python gets a copy of the package. With each bug in turn the tests marked
"quick" must fail, and without any they must pass. A bug that no test notices, or whose place in
the source is gone, is an error. The portable kernels are tested, built without optimisation.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import warm
from mutant import Mutant
from seeded import MUTANTS

ROOT = Path(__file__).resolve().parents[2]
_NEEDED = ("csta_fast", "csrc", "kernels", "tests", "setup.py", "pyproject.toml", "README.md")
_ENVIRONMENT = {
    "CXXFLAGS": "-O0 -w -include seeded.h",
    "CSTA_FAST_ISA": "portable",
    "CSTA_FAST_BACKEND": "",
    "CSTA_FAST_CUDA": "0",  # the CUDA kernels' bugs are for the emulator
    "CSTA_FAST_NATIVE": "",
    "CUDA_VISIBLE_DEVICES": "",  # and Triton's for its interpreter
    "TRITON_INTERPRET": "1",
    "MALLOC_PERTURB_": "85",  # an element that is never written must not be right by luck
    "OMP_WAIT_POLICY": "PASSIVE",
    "OPENBLAS_NUM_THREADS": "1",
    "PYTHONPATH": "",
    "SEEDED_BUG": "0",
}
_SELECTOR = """#pragma once
#include <cstdlib>
static const int kSeededBug = std::atoi(std::getenv("SEEDED_BUG"));
"""
_FILES = (
    "contract", "extremes", "bitwise", "messages", "layer", "training", "transforms", "operations",
    "attention_alone", "raw_operations", "triton", "cuda", "cuda_traffic", "cuda_device",
)  # fmt: skip
_OPTIONS = (
    "-m", "quick", "-x", "-q", "--tb=line", "--show-capture=no", "-p", "no:cacheprovider",
)  # fmt: skip
_NATIVE, _TRITON, _CUDA = "not reference and not triton and not cuda", "triton", "cuda"
#: All that is ever shown a bug, the longest first.
_ALL = ((_FILES[:1], _TRITON), (_FILES[1:], _TRITON), (_FILES, _CUDA), (_FILES, _NATIVE))


def _test(folder: Path, files: Sequence[str], chosen: str, bug: int = 0) -> warm.Finished:
    tests = [str(file) for name in files for file in folder.glob(f"tests/*/test_{name}.py")]
    return warm.run_pytest(folder, ["-k", chosen, *_OPTIONS, *tests], {"SEEDED_BUG": str(bug)})


def _copy_repository(source: Path, folder: Path) -> None:
    skip = shutil.ignore_patterns("__pycache__", "mutants", ".hypothesis", "native")
    for name in _NEEDED:
        if (source / name).is_dir():
            shutil.copytree(source / name, folder / name, ignore=skip)
        elif (source / name).exists():
            shutil.copy2(source / name, folder / name)


def _planted(text: str, mutant: Mutant, replacement: str) -> str:
    places = text.count(mutant.old)
    if places != 1:
        raise SystemExit(f"{mutant.name}: {mutant.file} holds {mutant.old!r} {places} times")
    return text.replace(mutant.old, replacement)


def _choice(mutant: Mutant) -> str:
    """C++ that does the right thing, or the wrong one where this bug is selected."""
    selected = f"kSeededBug == {_number(mutant)}"
    if mutant.old.endswith(";"):
        return f"if ({selected}) {{ {mutant.new} }} else {{ {mutant.old} }}"
    return f"({selected} ? ({mutant.new}) : ({mutant.old}))"


def _number(mutant: Mutant) -> int:
    return MUTANTS.index(mutant) + 1


def _build(folder: Path) -> None:
    """Build the copy with every bug of the library in it."""
    (folder / "csta_fast" / "_cpu.abi3.so").unlink(missing_ok=True)
    (folder / "csrc" / "seeded.h").write_text(_SELECTOR)
    for mutant in MUTANTS:
        if mutant.in_library:
            file = folder / mutant.file
            file.write_text(_planted(file.read_text(), mutant, _choice(mutant)))
    command = [sys.executable, "setup.py", "-q", "build_ext", "--inplace"]
    built = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if built.returncode:
        raise SystemExit(f"the copy does not build:\n{built.stdout}{built.stderr[-5000:]}")


def _stages(mutant: Mutant) -> Iterator[tuple[tuple[str, ...], str]]:
    """Files and tests of them to run, one stage after the other, until one notices the bug."""
    chosen = _TRITON if mutant.in_triton else _CUDA if mutant.in_cuda else _NATIVE
    first, _, name = mutant.tests.partition("::")
    if name:
        yield (first,), f"({chosen}) and {name}"
    yield (first,), chosen
    yield tuple(each for each in _FILES if each != first), chosen


def _noticed(mutant: Mutant, folder: Path) -> tuple[bool, str]:
    """Whether a test fails, or crashes, with the bug selected or planted in the folder."""
    bug = _number(mutant) if mutant.in_library else 0
    for files, chosen in _stages(mutant):
        tested = _test(folder, files, chosen, bug)
        failed = [line for line in tested.lines if line.startswith(("FAILED ", "ERROR "))]
        if (tested.returncode == 1 and failed) or tested.returncode < 0:
            return True, (failed or tested.lines)[0]
        if tested.returncode != 0:
            return False, f"pytest stopped with {tested.returncode}: {tested.lines[-1]}"
    return False, "no test noticed it"


def _outcome(mutant: Mutant, clean: Path) -> bool:
    begin = time.perf_counter()
    if mutant.in_library:
        noticed, message = _noticed(mutant, clean)
    else:
        with tempfile.TemporaryDirectory(prefix="mutant_") as temporary:
            folder = Path(temporary)
            _copy_repository(clean, folder)
            file = folder / mutant.file
            file.write_text(_planted(file.read_text(), mutant, mutant.new))
            noticed, message = _noticed(mutant, folder)
    seconds = time.perf_counter() - begin
    mark = "noticed " if noticed else "SURVIVED"
    print(f"{mark} {seconds:5.1f} s  {mutant.name}: {message[:120]}", flush=True)
    return noticed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", metavar="NAME", default=[], help="these bugs alone")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    unknown = set(options.only) - {mutant.name for mutant in MUTANTS}
    if unknown:
        parser.error(f"no such bug: {', '.join(sorted(unknown))}")
    chosen = [mutant for mutant in MUTANTS if not options.only or mutant.name in options.only]
    begin = time.perf_counter()
    warm.prepare(_ENVIRONMENT)
    with tempfile.TemporaryDirectory(prefix="mutants_") as temporary:
        clean = Path(temporary)
        _copy_repository(ROOT, clean)
        _build(clean)
        print(f"built in {time.perf_counter() - begin:.0f} s", flush=True)
        with ThreadPoolExecutor(options.jobs) as pool:
            for unharmed in pool.map(lambda tests: _test(clean, *tests), _ALL):
                if unharmed.returncode:
                    printed = "\n".join(unharmed.lines)
                    raise SystemExit(f"{printed[-3000:]}\nthe tests fail without a seeded bug")
            print(f"the tests pass without a bug, {time.perf_counter() - begin:.0f} s", flush=True)
            found = list(pool.map(lambda mutant: _outcome(mutant, clean), chosen))
    seconds = time.perf_counter() - begin
    print(f"{sum(found)} of {len(found)} seeded bugs noticed in {seconds:.0f} s")
    return 0 if all(found) else 1


if __name__ == "__main__":
    sys.exit(main())
