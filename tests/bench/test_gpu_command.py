"""The GPU command without a GPU: what it would run, what it makes of what came, and stops."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from csta_fast.kernels import plans

from bench import gpu, gpu_calls, gpu_steps, gpu_summary, report
from bench.gpu_steps import Choices
from bench.processes import Command

_L2 = 50 * 2**20


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Small calls: threads that wait for each other would take most of the time."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def _python(code: str, log: str = "log.txt", limit: float = 60) -> Command:
    return Command((sys.executable, "-c", code), log, limit)


def _row(**what: Any) -> dict[str, Any]:
    row = {
        "section": "gpu", "direction": "step", "shape": [512, 64, 64, 25], "dtype": "float32",
        "channels_last": False, "variant": "csta_fast-triton", "copies": 3.0, "speedup": 2.5,
        "copies_quartiles": [2.9, 3.1], "gigabytes_per_second": 1.0, "percent_of_limit": 83.3,
        "median_seconds": 1e-3, "speedup_of_compiled": 2.25, "peak_in_x": 2.5, "timed": "graph",
        "x_megabytes": 209.7,
    }  # fmt: skip
    return row | what


def _results(path: Path, *rows: dict[str, Any], **machine: Any) -> Path:
    benchmarks = [{"extra_info": row} for row in rows]
    results = {
        "machine_info": {"gpu": "a pretended GPU", "commit": "none"} | machine,
        "datetime": "2026-01-01T00:00:00+00:00",
        "benchmarks": benchmarks,
    }
    path.write_text(json.dumps(results))
    return path


def test_gpu_dry_run(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    shapes = ["--shapes", "8x64x64x25", "--select", "step", "--sections", "gpu_small"]
    assert gpu.main(["--dry-run", "--output", str(tmp_path / "new"), *shapes]) == 0
    printed = capsys.readouterr().out
    assert "tests/operators/test_on_gpu.py -k 'cuda and not emulated'" in printed
    assert "-k 'triton and not emulated'" in printed
    assert "--shard=1/" in printed
    for line in printed.splitlines():
        assert ("--longest-test=" in line) == ("gpu_watch" in line), line
    assert "python -m bench.gpu_calls --backend cuda" in printed
    assert "--device=cuda" in printed
    assert "-k '(-8x64x64x25-) and (step)'" in printed
    assert "bench.report" in printed
    assert "/new/bench.json --output" in printed
    assert not (tmp_path / "new").exists()


def test_gpu_contract_has_a_thread_for_every_processor(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 16)
    for workers, threads in ((0, "1"), (4, "4"), (16, "1")):
        parts = gpu_steps.contract(Choices(tmp_path, workers=workers))
        for command in (each for some in parts.values() for each in some):
            assert command.environment["OMP_NUM_THREADS"] == threads


def test_gpu_watches_with_every_tool(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("shutil.which", lambda name: f"/bin/{name}")
    tools = gpu_steps.sanitizer(Choices(tmp_path))
    assert list(tools) == ["none", "memcheck", "racecheck", "initcheck", "synccheck"]
    alone, watched = gpu_steps.side_by_side(tools)
    assert [each.log for each in alone] == ["sanitizer-none-cuda.txt", "sanitizer-none-triton.txt"]
    assert [each.log for each in watched][2:4] == [
        "sanitizer-racecheck-cuda.txt", "sanitizer-racecheck-triton.txt",
    ]  # fmt: skip
    assert all(each.words[:3] == ("compute-sanitizer", "--tool", tool)
               for tool in gpu_steps.TOOLS for each in tools[tool])  # fmt: skip


#: The calls that the command's help and docs/gpu.md tell those to make who have ten minutes each.
_CALLS = [
    line.split()[3:] for line in (gpu.__doc__ or "").splitlines()
    if "--steps" in line and line.startswith("    python -m bench.gpu")
]  # fmt: skip


@pytest.mark.parametrize("words", _CALLS, ids=" ".join)
def test_gpu_three_calls_of_ten_minutes(
    words: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """At the worst, when every step uses up its time."""
    assert len(_CALLS) == 3
    monkeypatch.setattr("shutil.which", lambda name: f"/bin/{name}")
    choices, _ = gpu._choices([*words, "--output", str(tmp_path)])
    batches = {
        "first": [next(iter(gpu_steps.first(choices).values()))],
        "contract": [next(iter(gpu_steps.contract(choices).values()))],
        "sanitizer": gpu_steps.side_by_side(gpu_steps.sanitizer(choices)),
        "bench": [[gpu_steps.bench(choices)]],
    }
    seconds = sum(batch[0].limit for step in choices.steps for batch in batches[step])
    assert 300 < seconds <= 575
    guide = (Path(gpu.__file__).parents[1] / "docs" / "gpu.md").read_text()
    assert f"python -m bench.gpu {' '.join(words)}\n" in guide


@pytest.mark.parametrize("words", [["--steps", "bench,speed"], ["--shapes", "1x2x3x4"]])
def test_gpu_unknown_words_are_refused(words: list[str]) -> None:
    with pytest.raises(SystemExit) as refused:
        gpu.main(["--dry-run", *words])
    assert refused.value.code == 2


def test_gpu_results_join_those_that_are_there(tmp_path: Path) -> None:
    for name in (
        "bench.json",
        "bench-2.json",
        *(f"bench-{number}.json" for number in range(3, 11)),
    ):
        assert gpu_steps.next_results(tmp_path).name == name
        (tmp_path / name).write_text("")
    assert [each.name for each in gpu_steps.all_results(tmp_path)][-2:] == [
        "bench-9.json", "bench-10.json",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("said", "code", "status"),
    [
        ("7 passed, 1 skipped in 1s", 0, 0),
        ("6 passed, 1 failed in 1s", 1, 1),
        ("7 skipped in 1s", 0, 1),
        ("backend 'triton' does not serve any more\n7 passed in 1s", 0, 1),
    ],
)
def test_gpu_run(
    said: str, code: int, status: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """A whole run with commands that only pretend: red contracts leave nothing to time."""
    folder = _pretended_run(tmp_path, monkeypatch, {"cuda": (said, code), "triton": (said, code)})
    assert gpu.main(["--output", str(folder)]) == status
    summary = (folder / "summary.md").read_text()
    assert summary in capsys.readouterr().out
    assert any(f"14 {word}" in summary for word in ("passed", "skipped")) is ("7" in said)
    last = said.splitlines()[-1]
    assert (folder / "contract.txt").read_text().count(f"\n{last}\n") == 4
    assert ("not run: every backend is red" in summary) is (status == 1)
    assert ("| (512, 64, 64, 25), float32, step | csta_fast-triton" in summary) is (status == 0)
    assert gpu_summary.NO_SANITIZER in summary


def _pretended_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, contract: dict[str, tuple[str, int]]
) -> Path:
    """A result folder, for a run whose steps only print."""
    made = _results(tmp_path / "made.json", _row())
    folder = tmp_path / "results"
    machine = f"open({str(folder / 'machine.json')!r}, 'w').write('{{}}')"
    copy = f"import shutil; shutil.copy({str(made)!r}, {str(folder / 'bench.json')!r})"

    def parts(_: Choices) -> dict[str, list[Command]]:
        return {
            name: [
                _python(f"import sys; print({said!r}); sys.exit({code})", f"{name}-{part}")
                for part in "12"
            ]
            for name, (said, code) in contract.items()
        }

    def bench(_: Choices, backend: str | None = None) -> Command:
        return _python(f"{copy}; print('only', {backend!r}); print('3 passed in 1s')", "bench.txt")

    monkeypatch.setattr(gpu_steps, "machine", lambda _: _python(machine))
    monkeypatch.setattr(gpu_steps, "first", lambda _: {})
    monkeypatch.setattr(gpu_steps, "contract", parts)
    calls = {"none": [_python("print('all right')", "none-cuda.txt")]}
    monkeypatch.setattr(gpu_steps, "sanitizer", lambda _: calls)
    monkeypatch.setattr(gpu_steps, "bench", bench)
    monkeypatch.setattr(gpu_steps, "report", lambda _: _python("print('wrote')", "report.txt"))
    return folder


def test_gpu_a_red_backend_leaves_the_other_to_be_timed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The summary names the first failure; figures of benches that were stopped are kept."""
    red = "RED test_contract.py::test_case[odd-cuda]: nine is not ten\n1 failed in 1s"
    ends = {"cuda": (red, 1), "triton": ("7 passed in 1s", 0)}
    folder = _pretended_run(tmp_path, monkeypatch, ends)
    assert gpu.main(["--output", str(folder)]) == 1
    summary = (folder / "summary.md").read_text()
    assert "| contract, cuda | RED" in summary
    assert "first of 2 red: test_contract.py::test_case[odd-cuda]: nine is not ten" in summary
    assert "| contract, triton | green" in summary
    assert "only triton" in (folder / "bench.txt").read_text()
    assert (folder / "bench.json").exists()
    assert "csta_fast-triton" in summary


def test_gpu_none_is_an_exit_status(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    absent = _python("import sys; print('cannot run: PyTorch sees no GPU'); sys.exit(1)")
    monkeypatch.setattr(gpu_steps, "machine", lambda _: absent)
    assert gpu.main(["--output", str(tmp_path)]) == 2
    assert "cannot run: PyTorch sees no GPU" in capsys.readouterr().out


def test_gpu_calls_are_right_and_use_both_plans(capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu_calls.main(["--device", "cpu", "--backend", "reference"]) == 0
    assert "all right" in capsys.readouterr().out
    used = {
        (sample.channels_last, plans.plan(*sample.shape[1:], sample.groups, size,
                                          sample.channels_last, _L2, 1).single_program)
        for sample in gpu_calls.SAMPLES
        for size in (2, 4)
    }  # fmt: skip
    assert used == {(False, False), (False, True), (True, False), (True, True)}


def test_gpu_calls_find_a_wrong_kernel(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    right = gpu_calls.results

    def wrong(sample: Any, dtype: Any, device: str, backend: str | None) -> Any:
        found = right(sample, dtype, device, "reference")
        return found if backend == "reference" else [each.roll(1) for each in found]

    monkeypatch.setattr(gpu_calls, "results", wrong)
    monkeypatch.setattr(gpu_calls, "SAMPLES", gpu_calls.SAMPLES[:1])
    assert gpu_calls.main(["--device", "cpu", "--backend", "triton"]) == 1
    assert "WRONG" in capsys.readouterr().out


@pytest.mark.parametrize("has_matplotlib", [True, False])
def test_gpu_report(has_matplotlib: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor and a GPU get a chapter each; only the GPU's rows meet the GPU's goals."""
    if has_matplotlib:
        pytest.importorskip("matplotlib")
    else:
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    small = {"shape": [2, 64, 64, 25], "section": "gpu_small", "x_megabytes": 0.8}
    forward, cuda = {"direction": "forward"}, {"variant": "csta_fast-cuda"}
    there = _results(
        tmp_path / "there.json", _row(**cuda, median_seconds=2e-3, speedup_of_triton=0.5), _row(),
        _row(**forward, percent_of_limit=70.0), _row(variant="eager"),
        _row(**small, setting="replayed", speedup_of_compiled=0.9),
        _row(**small, **forward, **cuda, median_microseconds=9.5, speedup_of_triton=1.25,
             median_seconds=8e-4),
        _row(**small, **forward, variant="csta_fast-triton"),
    )  # fmt: skip
    here = _results(
        tmp_path / "here.json", _row(section="step", variant="csta_fast"), gpu=None, cpu="some CPU"
    )
    report.main([str(here), str(there), "--output", str(tmp_path)])
    text = (tmp_path / "benchmarks.md").read_text()
    processor, _, device = text.partition("## a pretended GPU")
    assert "## some CPU" in processor
    assert "GPU step" not in processor
    assert "triton step, x of 64 MB or more, % of copy | ≥ 80 | 83.30 | 83.30 | 1 of 1" in device
    assert "triton forward, x of 64 MB or more, % of copy | ≥ 85 | 70.00 | 70.00 | 0 of 1" in device
    assert "cuda step, x of 64 MB or more, % of copy | ≥ 85 | 83.30 | 83.30 | 0 of 1" in device
    assert "cuda × triton | ≥ 1 | 0.50 | 1.25 | 1 of 2" in device
    assert "cuda forward of (2, 64, 64, 25), µs of the GPU | ≤ 10 | 9.50 | 9.50 | 1 of 1" in device
    assert "GPU, published models × torch.compile | ≥ 1 | 0.90 | 2.25 | 5 of 6" in device
    assert "cuda was the faster one in 1 of 2." in device
    assert "| (512, 64, 64, 25), float32, step | 2.00 ms | 1.00 ms | triton, 2.00 × |" in device
    assert "| (2, 64, 64, 25), float32, forward | 800 µs | 1.00 ms | cuda, 1.25 × |" in device
    assert "**csta_fast-triton**" in device
    assert "### GPU small" in device
    assert (tmp_path / "benchmarks-1.svg").exists() is has_matplotlib
    assert ("benchmarks-1.svg" in device) is has_matplotlib
