"""Measures in a process of its own: other environment variables, or nothing else running before.

The child runs this module as a script with a request, and prints its answer as one line.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench import warm_heap
from bench.groups import Group
from bench.timing import Measured

# The child must import the very package that the parent does, so it takes over its sys.path.
_CHILD = """
import json, runpy, sys
sys.path[:] = json.loads(sys.argv.pop())
runpy.run_module("bench.alone", run_name="__main__")
"""


class ChildError(AssertionError):
    """The measuring process failed; its last words follow."""


def _run(request: dict[str, Any], environment: Mapping[str, str]) -> Any:
    settings = warm_heap.WARM_HEAP | warm_heap.HUGE_PAGES
    clean = {name: value for name, value in os.environ.items() if name not in settings}
    path = [*sys.path, str(Path(__file__).parent.parent)]
    done = subprocess.run(
        [sys.executable, "-c", _CHILD, json.dumps(request), json.dumps(path)],
        env={**clean, **environment},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise ChildError(done.stderr[-4000:])
    return json.loads(done.stdout.splitlines()[-1])


def measure_alone(
    groups: Iterable[Group],
    names: Iterable[str],
    backend: str | None,
    seconds: float,
    environment: Mapping[str, str] = warm_heap.WARM_HEAP,
) -> list[Measured]:
    """``measure`` for several groups, in one fresh process with that environment."""
    request = {
        "task": "times",
        "groups": [asdict(group) for group in groups],
        "names": list(names),
        "backend": backend,
        "seconds": seconds,
    }
    return [Measured(**measured) for measured in _run(request, environment)]


def footprint_alone(group: Group, name: str, backend: str | None) -> dict[str, float]:
    """``bench.footprint.footprint`` in a fresh process with the default allocator."""
    request = {"task": "footprint", "group": asdict(group), "name": name, "backend": backend}
    found: dict[str, float] = _run(request, {})
    return found


def _group(fields: dict[str, Any]) -> Group:
    return Group(**fields | {"shape": tuple(fields["shape"]), "rivals": tuple(fields["rivals"])})


def _serve(request: dict[str, Any]) -> Any:
    if request["task"] == "footprint":
        from bench.footprint import footprint

        return footprint(_group(request["group"]), request["name"], request["backend"])
    from bench.measure import measure

    return [
        asdict(measure(_group(group), request["names"], request["backend"], request["seconds"]))
        for group in request["groups"]
    ]


if __name__ == "__main__":
    print(json.dumps(_serve(json.loads(sys.argv[1]))))
