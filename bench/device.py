"""The devices that benches can measure on, behind one interface; ``--device`` picks one.

What is special about a GPU stands here, in ``gpu_timing`` and in ``gpu_machine``; whoever measures
asks the device and need not know which it is. ``python -m bench.device FILE`` writes what a GPU is
as JSON.
"""

from __future__ import annotations

import gc
import json
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import torch

from bench import gpu_groups, gpu_timing, timing, warm_heap
from bench.groups import Group
from bench.timing import Measured, Variant
from csta_fast.backends import BACKENDS, select
from csta_fast.backends import cpu as cpu_backend

Stage = Callable[[str], None]

_L2_SIZES_READ = 4  # the input sets of a rotation exceed the L2 cache this many times
_SHARE_OF_MEMORY = 1 / 32  # of the device's, that all sets of x may take
_MOST_SETS = 1024
_HELD_CYCLES = 400_000  # some 0.2 ms: longer than the host takes to start a graph


class Device(Protocol):
    """Where variants are measured."""

    def missing(self, backend: str | None) -> str | None:
        """Why nothing can be measured there, or None."""

    def measures(self, section: str) -> bool: ...
    def own_variants(self, backend: str | None) -> tuple[str, ...]:
        """What csta_fast is measured as: by the call a user makes, or backend by backend."""

    def serving(self, backend: str | None) -> str:
        """The names of the backends that are measured."""

    def describe(self, backend: str | None) -> dict[str, Any]: ...
    def header(self, backend: str | None) -> str: ...
    def input_sets(self, group: Group) -> int: ...
    def computing(self) -> AbstractContextManager[Any]:
        """Everything of a group is computed inside."""

    def interleave(
        self, group: Group, variants: Sequence[Variant], seconds: float, stage: Stage
    ) -> Measured: ...


class Cpu:
    """The processor, with csta_fast as a user's call chooses it."""

    def missing(self, backend: str | None) -> str | None:
        if backend != "reference" and cpu_backend.unavailable is not None:
            return f"{cpu_backend.unavailable}. To measure plain PyTorch: --backend=reference"
        return None

    def measures(self, section: str) -> bool:
        return section not in gpu_groups.SECTIONS

    def own_variants(self, backend: str | None) -> tuple[str, ...]:
        return ("csta_fast",)

    def serving(self, backend: str | None) -> str:
        return select(torch.empty(1, 1, 1, 1), backend).name

    def describe(self, backend: str | None) -> dict[str, Any]:
        from bench import machine

        return machine.describe(self.serving(backend))

    def header(self, backend: str | None) -> str:
        return (
            f"csta_fast: backend {self.serving(backend)}, instruction set "
            f"{cpu_backend.instruction_set()}, allocator {warm_heap.describe()}"
        )

    def input_sets(self, group: Group) -> int:
        return 1

    def computing(self) -> AbstractContextManager[Any]:
        return nullcontext()

    def interleave(
        self, group: Group, variants: Sequence[Variant], seconds: float, stage: Stage
    ) -> Measured:
        return timing.interleave(variants, seconds, stage)


class CudaRuntime:
    """PyTorch's view of the GPU, on a stream that is not the null stream."""

    def __init__(self) -> None:
        self.stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]

    def synchronize(self) -> None:
        self.stream.synchronize()

    def event(self) -> torch.cuda.Event:
        return torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]

    def hold(self) -> None:
        torch.cuda._sleep(_HELD_CYCLES)  # type: ignore[no-untyped-call]

    def capture(self, run: Callable[[], None]) -> torch.cuda.CUDAGraph:
        self.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=self.stream):
            run()
        return graph

    def peak_of(self, call: Callable[[], Any]) -> int:
        gc.collect()
        self.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        self.synchronize()
        return torch.cuda.max_memory_allocated() - before


class Gpu:
    """PyTorch's current CUDA device, with csta_fast on every backend that serves it, by name."""

    @property
    def _runtime(self) -> CudaRuntime:
        return _cuda_runtime()

    def missing(self, backend: str | None) -> str | None:
        if not torch.cuda.is_available():
            return "PyTorch sees no GPU"
        if not self.own_variants(backend):
            x = torch.empty(1, 1, 1, 1, device="cuda")
            reasons = (f"{each.name}: {each.refusal(x)}" for each in BACKENDS.values())
            return "no backend serves this GPU: " + "; ".join(reasons)
        return None

    def measures(self, section: str) -> bool:
        return section in gpu_groups.SECTIONS

    def _backends(self, backend: str | None) -> list[str]:
        if not torch.cuda.is_available():
            return []
        x = torch.empty(1, 1, 1, 1, device="cuda")
        names = [backend] if backend else [name for name in BACKENDS if name != "reference"]
        return [name for name in names if BACKENDS[name].refusal(x) is None]

    def own_variants(self, backend: str | None) -> tuple[str, ...]:
        return tuple(f"csta_fast-{name}" for name in self._backends(backend))

    def serving(self, backend: str | None) -> str:
        return ", ".join(self._backends(backend)) or "none"

    def describe(self, backend: str | None) -> dict[str, Any]:
        from bench import gpu_machine

        return gpu_machine.describe(self.serving(backend))

    def header(self, backend: str | None) -> str:
        name = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
        return f"csta_fast: backends {self.serving(backend)}, on {name}"

    def input_sets(self, group: Group) -> int:
        properties = torch.cuda.get_device_properties()
        return input_sets(group.bytes_of_x, properties.L2_cache_size, properties.total_memory)

    def computing(self) -> AbstractContextManager[Any]:
        return torch.cuda.stream(self._runtime.stream)

    def interleave(
        self, group: Group, variants: Sequence[Variant], seconds: float, stage: Stage
    ) -> Measured:
        return gpu_timing.interleave(variants, seconds, stage, self._runtime, group.replay)


@lru_cache(maxsize=1)
def _cuda_runtime() -> CudaRuntime:
    return CudaRuntime()


def input_sets(bytes_of_x: int, l2_bytes: int, memory_bytes: int) -> int:
    """How many sets of inputs to go round among: at least two, for caches keep what they can."""
    wanted = -(-_L2_SIZES_READ * l2_bytes // bytes_of_x)
    fitting = int(_SHARE_OF_MEMORY * memory_bytes) // bytes_of_x
    return max(2, min(wanted, fitting, _MOST_SETS))


DEVICES: dict[str, Device] = {"cpu": Cpu(), "cuda": Gpu()}


def main(arguments: list[str]) -> int:
    gpu = DEVICES["cuda"]
    if (missing := gpu.missing(None)) is not None:
        print(f"cannot run: {missing}")
        return 1
    Path(arguments[0]).write_text(json.dumps(gpu.describe(None), indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
