"""Compiles every kind of kernel ahead of time, for GPUs that are not here: one line of JSON each.

    python tests/support/triton_compile.py 90 [CONFIGURATION ...]
    python tests/support/triton_compile.py 90 lengths

The operations run as they are, over tensors in ordinary memory, with a launch that only compiles.
The target is an NVIDIA compute capability without the point, or AMD's gfx name. What ptxas says of
registers and spills is read from the report that Triton has it write, AMD's from the assembly.
"""

from __future__ import annotations

import io
import json
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass
from typing import Any

import torch
import triton
from csta_fast.kernels import means, operations, pipeline, weights
from triton.backends.compiler import GPUTarget

from csta_fast.types import COMPUTE_DTYPES


@dataclass(frozen=True)
class Configuration:
    """A call whose kernels differ from those of the others."""

    shape: tuple[int, int, int, int]
    dtype: torch.dtype = torch.float32
    groups: int = 1
    channels_last: bool = False
    masks: str = ""  # of l(engths), f(rames), j(oints), s(hared joints)
    gate: int = 0
    scale: float | None = None
    residual: bool = False


CONFIGURATIONS = {
    "plain": Configuration((2, 64, 64, 25)),
    "masked": Configuration((2, 64, 64, 25), torch.bfloat16, masks="lfj", residual=True),
    "per_channel": Configuration((2, 64, 64, 25), torch.float16, 64, gate=1, scale=0.37),
    "last": Configuration((2, 64, 64, 25), torch.bfloat16, channels_last=True, masks="l"),
    "coordinates": Configuration((2, 3, 64, 25), masks="ls"),
    "last_groups": Configuration((2, 64, 300, 25), groups=2, channels_last=True),
    "long": Configuration((1, 64, 4096, 18), torch.float16, masks="f"),
    "few_frames": Configuration((2, 256, 2, 25)),
    "double": Configuration((2, 64, 64, 17), torch.float64),
    "double_last": Configuration((2, 24, 40, 20), torch.float64, 24, channels_last=True, masks="j"),
    "wide": Configuration((2, 8, 20, 200), torch.bfloat16, groups=8, residual=True, scale=1.0),
}
_KERNELS = (
    (pipeline, "forward_kernel"), (pipeline, "backward_kernel"), (means, "pool_kernel"),
    (means, "means_kernel"), (means, "pool_backward_kernel"), (weights, "outer_kernel"),
    (weights, "add_runs_kernel"),
)  # fmt: skip


class _Driver:
    """What Triton asks of a GPU's driver before it compiles."""

    def __init__(self, target: GPUTarget) -> None:
        self._target = target

    def get_current_target(self) -> GPUTarget:
        return self._target

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int | None = None) -> int:
        return 0


class OnlyCompiled:
    """A kernel that is compiled where it would be launched."""

    def __init__(self, kernel: Any) -> None:
        self.kernel, self.compiled = kernel, []
        self.printed: dict[int, str] = {}  # while it was compiled, by identity

    def __getitem__(self, grid: tuple[int, ...]) -> Callable[..., None]:
        def launch(*args: Any, **options: Any) -> None:
            with redirect_stdout(io.StringIO()) as printed:
                compiled = self.kernel.warmup(*args, grid=grid, **options)
            self.compiled.append(compiled)
            self.printed.setdefault(id(compiled), printed.getvalue())

        return launch


def only_compile(target: str) -> dict[str, OnlyCompiled]:
    """Put every kernel of this process behind a launch that only compiles for the target."""
    nvidia = target.isdigit()
    gpu = GPUTarget("cuda", int(target), 32) if nvidia else GPUTarget("hip", target, 64)
    triton.runtime.driver.set_active(_Driver(gpu))
    triton.knobs.compilation.always_compile = True
    triton.knobs.nvidia.dump_ptxas_log = True
    torch.version.hip = None if nvidia else "6"  # type: ignore[assignment]
    kernels = {}
    for module, name in _KERNELS:
        kernels[name] = OnlyCompiled(getattr(module, name))
        setattr(module, name, kernels[name])
    return kernels


def call_everything(this: Configuration) -> None:
    """All six operations on tensors of a configuration, none of them computed."""
    samples, channels, frames, joints = this.shape
    layout = torch.channels_last if this.channels_last else torch.contiguous_format
    x = torch.empty(this.shape, dtype=this.dtype, memory_format=layout)
    arithmetic, hidden = COMPUTE_DTYPES[this.dtype], max(16, channels // 4)
    shapes = [(hidden, channels), (hidden,), (this.groups, hidden), (this.groups,)] * 2
    heads = [torch.empty(shape, dtype=arithmetic) for shape in shapes]
    masks = (
        torch.full((samples,), frames) if "l" in this.masks else None,
        torch.ones(samples, frames, dtype=torch.bool) if "f" in this.masks else None,
        torch.ones(*((samples,) if "j" in this.masks else ()), joints, dtype=torch.bool)
        if set("js") & set(this.masks) else None,
    )  # fmt: skip
    choices = (this.gate, this.scale, this.residual)
    _, *attention = operations.csta(x, *heads, *masks, *choices)
    operations.csta_backward(x, attention[0], None, x, *heads, *attention, *masks, *choices, True)
    alone = (None, attention[0], None, x)  # no gradient of y
    operations.csta_backward(*alone, *heads, *attention, *masks, *choices, True)
    operations.couple(x, *attention, *masks, *choices)
    operations.couple_backward(x, None, None, x, *attention, *attention, *masks, *choices, True)
    means = operations.pool(x, *masks)
    operations.pool_backward(*means, *masks, this.channels_last)


def _nvidia_report(compiled: Any, printed: str) -> dict[str, int]:
    code = compiled.asm["ptx"]
    vectors = re.findall(r"(?:ld|st)\.global[\w:.]*\.v[24]\.", code)
    return {
        "registers": int(re.search(r"Used (\d+) registers", printed)[1]),  # type: ignore[index]
        "spilled": sum(map(int, re.findall(r"(\d+) bytes spill", printed))),
        "vectors": len(vectors),
        "dots": _dots(compiled) + len(re.findall(r"\b(?:wg|tcgen05\.)?mma\b", code)),
    }


def _dots(compiled: Any) -> int:
    """Products of matrices that the compiler makes, asked or not."""
    return len(re.findall(r"\b(?:tt|ttng)\.\w*dot\w*", compiled.asm["ttgir"]))


def _amd_report(compiled: Any, _: str) -> dict[str, int]:
    code = compiled.asm["amdgcn"]

    def count(name: str) -> int:
        return int(re.search(rf"\.{name}:\s+(\d+)", code)[1])  # type: ignore[index]

    # Scalar registers that spill go into lanes of vector registers, not to memory.
    spilled = count("vgpr_spill_count")
    dots = _dots(compiled) + len(re.findall(r"\bv_\w*mfma\w*", code))
    return {"registers": count("vgpr_count"), "spilled": spilled, "vectors": 0, "dots": dots}


def reports(target: str, names: list[str]) -> Iterator[dict[str, Any]]:
    kernels = only_compile(target)
    report = _nvidia_report if target.isdigit() else _amd_report
    for name in names:
        call_everything(CONFIGURATIONS[name])
        for kernel, launches in kernels.items():
            for identity, compiled in {id(each): each for each in launches.compiled}.items():
                yield {"target": target, "configuration": name, "kernel": kernel,
                       "shared": compiled.metadata.shared,
                       **report(compiled, launches.printed[identity])}  # fmt: skip
            launches.compiled.clear()


def compilations_of_lengths(target: str, lengths: range) -> dict[str, int]:
    """How often every kernel is compiled for samples of that many different lengths."""
    kernels = only_compile(target)
    for frames in lengths:
        call_everything(Configuration((2, 64, frames, 25)))
    return {name: len({id(each) for each in kernel.compiled}) for name, kernel in kernels.items()}


if __name__ == "__main__":
    if sys.argv[2:] == ["lengths"]:
        print(json.dumps(compilations_of_lengths(sys.argv[1], range(1, 101))))
    else:
        for line in reports(sys.argv[1], sys.argv[2:] or list(CONFIGURATIONS)):
            print(json.dumps(line), flush=True)
