"""Options, the restart with a warm heap, the machine block, and the closing tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench import warm_heap
from bench.device import DEVICES
from bench.duration import Bench
from bench.groups import EXTENDED_SECTIONS, QUICK
from bench.measure import quartiles
from bench.replay import CLOCK
from bench.session import Session

_SESSION = pytest.StashKey[Session]()


def pytest_addoption(parser: pytest.Parser) -> None:
    options = parser.getgroup("csta_fast benches")
    options.addoption("--device", choices=tuple(DEVICES), default="cpu",
                      help="where to measure; each has sections of its own")  # fmt: skip
    options.addoption("--section", action="append", help="measure this section only (repeatable)")
    options.addoption("--full", action="store_true",
                      help="also field, samples and frames; on a GPU also gpu_field")  # fmt: skip
    options.addoption("--rivals", choices=("default", "all", "none"), default="default",
                      help="all: also torch.compile's max-autotune")  # fmt: skip
    options.addoption("--quick", action="store_true",
                      help="two minutes: a few shapes of each kind")  # fmt: skip
    options.addoption("--seconds", type=float, help="measuring time per group (3; 1 with --quick)")
    options.addoption("--budget", type=float, help="start no new group after so many seconds")
    options.addoption("--results", type=Path, metavar="FILE",
                      help="the figures, after each one (results/bench-TIME.json)")  # fmt: skip
    options.addoption("--backend", help="the backend to force (default: as a user's call chooses)")


def pytest_configure(config: pytest.Config) -> None:
    if not warm_heap.is_set():
        # Under capture the standard streams are temporary files, which a new process would keep.
        config.pluginmanager.getplugin("capturemanager").suspend_global_capture(in_=True)
        warm_heap.restart_with_warm_heap()
    config.addinivalue_line("markers", "section(name): the section of the benches it belongs to")
    config.addinivalue_line("filterwarnings", "ignore:`torch.jit:DeprecationWarning")  # compiler's
    config.stash[_SESSION] = Session(config)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    wanted = config.getoption("--section", default=None)
    full, quick = (config.getoption(name, default=False) for name in ("--full", "--quick"))
    device = config.stash[_SESSION].device

    def is_wanted(item: pytest.Item) -> bool:
        marker = item.get_closest_marker("section")
        if marker is None:
            return True
        section = marker.args[0]
        if not device.measures(section):
            return False
        if quick and section != "overhead":
            return _parameters(item).get("group") in QUICK
        return section in wanted if wanted else full or section not in EXTENDED_SECTIONS

    config.hook.pytest_deselected(items=[item for item in items if not is_wanted(item)])
    items[:] = [item for item in items if is_wanted(item)]


def pytest_collection_finish(session: pytest.Session) -> None:
    session.config.stash[_SESSION].display.begin(len(session.items))


def pytest_report_collectionfinish(
    config: pytest.Config, items: Sequence[pytest.Item]
) -> list[str]:
    found = [_parameters(item) for item in items]
    return config.stash[_SESSION].plan([Bench.of(each) for each in found if "variant" in each])


def _parameters(item: pytest.Item) -> dict[str, Any]:
    return getattr(getattr(item, "callspec", None), "params", {})


def pytest_report_teststatus(report: pytest.TestReport) -> tuple[str, str, str] | None:
    """No dots: each row is shown as it is measured."""
    return ("passed", "", "PASSED") if report.when == "call" and report.passed else None


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> None:
    item.config.stash[_SESSION].display.done += 1


def pytest_report_header(config: pytest.Config) -> list[str]:
    return config.stash[_SESSION].header()


def pytest_benchmark_update_machine_info(
    config: pytest.Config, machine_info: dict[str, Any]
) -> None:
    session = config.stash[_SESSION]
    machine_info.clear()  # it names the host
    machine_info.update(session.device.describe(session.backend))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    session = terminalreporter.config.stash[_SESSION]
    terminalreporter.write(session.tables() + session.end())


@pytest.fixture(scope="session")
def session(pytestconfig: pytest.Config) -> Session:
    shared = pytestconfig.stash[_SESSION]
    shared.require_backend()
    return shared


@pytest.fixture
def record(
    benchmark: BenchmarkFixture, session: Session
) -> Callable[[str, list[float], dict[str, Any]], None]:
    """Hands one variant's times, and what they mean, to pytest-benchmark and the closing tables."""

    def hand_over(group: str, seconds: list[float], information: dict[str, Any]) -> None:
        benchmark.group = group
        low, middle, high = quartiles(seconds)
        times = {"median_seconds": middle, "seconds_quartiles": [low, high], "rounds": len(seconds)}
        benchmark.extra_info.update(information, **times)
        CLOCK.replay(benchmark, seconds)
        session.keep(benchmark.extra_info)

    return hand_over
