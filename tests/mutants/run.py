"""Shows that the test suite notices seeded bugs: ``python tests/mutants/run.py``.

The bugs of the library are compiled into one copy of it, each behind a number that an environment
variable selects; a bug in Python gets a copy of the package. With each bug in turn the tests marked
"quick" must fail, and without any they must pass. A bug that no test notices, or whose place in
the source is gone, is an error. The portable kernels are tested, built without optimisation.
"""

from __future__ import annotations

import argparse
import os
import re
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
# Read when the library is loaded, and again by a process that is forked for a bug.
_SELECTOR = """#pragma once
#include <pthread.h>

#include <cstdlib>
static int kSeededBug = 0;
static void select_bug() { kSeededBug = std::atoi(std::getenv("SEEDED_BUG")); }
static const int kSelects = (select_bug(), pthread_atfork(nullptr, nullptr, select_bug));
"""
_FILES = (
    "contract", "extremes", "bitwise", "messages", "layer", "training", "transforms", "operations",
    "attention_alone", "raw_operations", "triton", "cuda", "cuda_traffic", "cuda_device",
)  # fmt: skip
_OPTIONS = (
    "-m", "quick", "-x", "-q", "--tb=line", "--show-capture=no", "-p", "no:cacheprovider",
)  # fmt: skip
_NATIVE, _TRITON, _CUDA = "not reference and not triton and not cuda", "triton", "cuda"


def _arguments(files: Sequence[str], chosen: str) -> list[str]:
    found = (file for name in files for file in ROOT.glob(f"tests/*/test_{name}.py"))
    return ["-k", chosen, *_OPTIONS, *(str(file.relative_to(ROOT)) for file in found)]


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
    for file in (folder / "csrc").rglob("kernels_*_avx*.cpp"):
        file.write_text(_portable_instead(file.read_text()))
    command = [sys.executable, "setup.py", "-q", "build_ext", "--inplace"]
    built = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if built.returncode:
        raise SystemExit(f"the copy does not build:\n{built.stdout}{built.stderr[-5000:]}")


def _portable_instead(source: str) -> str:
    """The source of another instruction set's entry points, with the portable ones in it."""
    names = {"float": "kPortableFloat32", "double": "kPortableFloat64"}
    source = source.replace("entry_points.h", "kernels.h")
    source, found = re.subn(r"\w+::kEntryPoints<(\w+)>", lambda match: names[match[1]], source)
    if found != 1:
        raise SystemExit(f"wanted one kEntryPoints, found {found}:\n{source}")
    return source


def _chosen(mutant: Mutant) -> str:
    return _TRITON if mutant.in_triton else _CUDA if mutant.in_cuda else _NATIVE


def _stages(mutant: Mutant) -> Iterator[tuple[tuple[str, ...], str]]:
    """Files and tests of them to run, one stage after the other, until one notices the bug."""
    chosen = _chosen(mutant)
    first, _, name = mutant.tests.partition("::")
    if name:
        yield (first,), f"({chosen}) and {name}"
    yield (first,), chosen
    yield tuple(each for each in _FILES if each != first), chosen


def _tell(mutant: Mutant, tested: warm.Finished) -> bool:
    """Print whether a test failed, or crashed, with the bug."""
    failed = [line for line in tested.lines if line.startswith(("FAILED ", "ERROR "))]
    noticed = (tested.returncode == 1 and bool(failed)) or tested.returncode < 0
    if noticed:
        message = (failed or tested.lines or [f"signal {-tested.returncode}"])[0]
    elif tested.returncode == 0:
        message = "no test noticed it"
    else:
        message = f"pytest stopped with {tested.returncode}: {tested.lines[-1:]}"
    mark = "noticed " if noticed else "SURVIVED"
    print(f"{mark} {tested.seconds:5.1f} s  {mutant.name}: {message[:120]}", flush=True)
    return noticed


def _check_unharmed(tested: warm.Finished) -> None:
    if tested.returncode:
        printed = "\n".join(tested.lines)
        raise SystemExit(f"{printed[-3000:]}\nthe tests fail without a seeded bug")


def _noticed_in_library(mutants: Sequence[Mutant], chosen: str, clean: Path, jobs: int) -> int:
    """How many of these bugs are noticed, all of which one build of the library has."""
    runs = [warm.Run(0)]
    for mutant in mutants:
        first, _, name = mutant.tests.partition("::")
        runs.append(warm.Run(_number(mutant), first, name))
    count = 0
    for run, tested in warm.run_each(clean, _arguments(_FILES, chosen), runs, jobs):
        if run.bug == 0:
            _check_unharmed(tested)
            print(f"the tests pass without a bug in {tested.seconds:.0f} s: {chosen}", flush=True)
        else:
            count += _tell(MUTANTS[run.bug - 1], tested)
    return count


def _noticed_in_copy(mutant: Mutant, clean: Path) -> bool:
    """Whether a bug of Python is noticed, in a copy of the package."""
    with tempfile.TemporaryDirectory(prefix="mutant_") as temporary:
        folder = Path(temporary)
        _copy_repository(clean, folder)
        file = folder / mutant.file
        file.write_text(_planted(file.read_text(), mutant, mutant.new))
        for files, chosen in _stages(mutant):
            tested = warm.run_pytest(folder, _arguments(files, chosen))
            if tested.returncode:
                break
        return _tell(mutant, tested)


def _noticed_of_kind(mutants: Sequence[Mutant], kind: str, clean: Path, jobs: int) -> int:
    """How many are noticed of bugs that are shown to the same tests, which pass without one."""
    if not mutants:
        return 0
    others = [mutant for mutant in mutants if not mutant.in_library]
    with ThreadPoolExecutor(jobs) as pool:
        if kind != _TRITON:
            in_library = [mutant for mutant in mutants if mutant.in_library]
            found = _noticed_in_library(in_library, kind, clean, jobs)
        else:
            commands = [_arguments(files, kind) for files in (_FILES[:1], _FILES[1:])]
            for tested in pool.map(lambda command: warm.run_pytest(clean, command), commands):
                _check_unharmed(tested)
            found = 0
        return found + sum(pool.map(lambda mutant: _noticed_in_copy(mutant, clean), others))


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
        found = sum(
            _noticed_of_kind([each for each in chosen if _chosen(each) == kind], kind, clean,
                             options.jobs)
            for kind in (_CUDA, _NATIVE, _TRITON)
        )  # fmt: skip
    seconds = time.perf_counter() - begin
    print(f"{found} of {len(chosen)} seeded bugs noticed in {seconds:.0f} s")
    return 0 if found == len(chosen) else 1


if __name__ == "__main__":
    sys.exit(main())
