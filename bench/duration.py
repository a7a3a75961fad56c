"""An estimate of how long benches take, for the line that a run begins with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from bench.groups import is_compiled

#: On two cores: tensors and the check in float64, and compiling forward or backward.
_PER_VARIANT, _PER_COMPILATION = 3.0, 10.0


class Bench(NamedTuple):
    """One test: the group that it belongs to, and its variant."""

    group: tuple[Any, ...]
    variant: str

    @classmethod
    def of(cls, parameters: Mapping[str, Any]) -> Bench:
        """Of a test's parameters, of which every one but the variant tells the group."""
        group = tuple(each for name, each in parameters.items() if name != "variant")
        return cls(group, parameters["variant"])


def duration(benches: Iterable[Bench], seconds: float) -> float:
    """Seconds that they take, measuring every group for the given ones."""
    benches = list(benches)
    compilations = sum(is_compiled(bench.variant) for bench in benches)
    measuring = seconds * len({bench.group for bench in benches})
    return measuring + _PER_VARIANT * len(benches) + _PER_COMPILATION * compilations
