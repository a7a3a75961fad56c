"""Every operation on small inputs, once each: what compute-sanitizer watches.

    compute-sanitizer --tool memcheck python -m bench.gpu_calls

Samples are chosen for both plans of the Triton kernels: one program that takes a small sample
through all stages, and many that hand the stages on and wait for each other. There are few
programs, so that all of them run at once and waiting stays short under a sanitizer. The CUDA
kernels get two more: one that a cluster holds, and one that it has to read again in part. Results
are compared with plain PyTorch's on the CPU in float64, so that the GPU runs the kernels under
watch and little else.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
from torch import Tensor

from bench.device import DEVICES
from csta_fast import HeadWeights, functional
from csta_fast.backends import BACKENDS

#: Relative L2 error that a result may have, by dtype; zeros have error 1.
_BOUNDS = {torch.float32: 1e-3, torch.bfloat16: 3e-2}

#: What counts as zero, over the largest result: the gradient of a softmax's last bias is zero, and
#: rounding leaves something of the sums that it is the rest of.
_NOTHING = 1e-3

_HIDDEN = 4

#: How a line on a call begins that went wrong.
WRONG = "WRONG"


@dataclass(frozen=True, slots=True)
class Sample:
    """Sizes and choices of one call."""

    shape: tuple[int, int, int, int]
    groups: int = 1
    gate: str = "softmax"
    channels_last: bool = False
    lengths: bool = False

    def __str__(self) -> str:
        layout = "channels-last" if self.channels_last else "contiguous"
        masked = ", lengths" if self.lengths else ""
        return f"{self.shape}, {self.groups} groups, {self.gate}, {layout}{masked}"


_SMALL, _LARGE = (3, 6, 7, 17), (3, 16, 48, 25)
SAMPLES = tuple(
    Sample(shape, groups, gate, channels_last, lengths)
    for shape in (_SMALL, _LARGE)
    for groups, gate, lengths in ((1, "softmax", False), (shape[1], "sigmoid", True))
    for channels_last in (False, True)
)

#: Eight blocks that hold a sample; two that hold a part of theirs only.
CLUSTERS = (
    Sample((1, 64, 64, 25), channels_last=True),
    Sample((1, 64, 64, 25)),
    Sample((1, 2, 4800, 25), 2, "sigmoid"),
)


def samples_of(backend: str) -> tuple[Sample, ...]:
    return SAMPLES + CLUSTERS * (backend == "cuda")


def _numbers(sample: Sample) -> tuple[Tensor, list[Tensor], Tensor, Tensor | None]:
    """x, the eight weights, the gradient of y and the lengths, in float64."""
    torch.manual_seed(0)
    samples, channels, frames, _ = sample.shape
    shapes = [(_HIDDEN, channels), (_HIDDEN,), (sample.groups, _HIDDEN), (sample.groups,)] * 2
    draw: dict[str, Any] = {"dtype": torch.float64}
    weights = [torch.randn(shape, **draw) for shape in shapes]
    lengths = torch.tensor([frames, frames // 2, 0][:samples]) if sample.lengths else None
    return torch.randn(sample.shape, **draw), weights, torch.randn(sample.shape, **draw), lengths


def results(sample: Sample, dtype: torch.dtype, device: str, backend: str | None) -> list[Tensor]:
    """y, the means, y of couple, and every gradient, computed there and brought to the CPU."""
    layout = torch.channels_last if sample.channels_last else torch.contiguous_format
    x, weights, grad_y, lengths = _numbers(sample)
    # Rounded first: what is compared is the computation, not the rounding of its inputs.
    rounded = [each.to(dtype).to(device) for each in (x, *weights, grad_y)]
    if backend == "reference":
        rounded = [each.double() for each in rounded]
    x, grad_y = (each.contiguous(memory_format=layout) for each in (rounded[0], rounded[-1]))
    leaves = [each.requires_grad_() for each in (x, *rounded[1:-1])]
    options: dict[str, Any] = {
        "lengths": None if lengths is None else lengths.to(device),
        "backend": backend,
    }
    gate: dict[str, Any] = {"gate": sample.gate}
    with_attention: dict[str, Any] = {"return_attention": True, **gate, **options}
    heads = HeadWeights(*leaves[1:5]), HeadWeights(*leaves[5:9])
    y, attention = functional.csta(leaves[0], *heads, **with_attention)
    found = [y, *torch.autograd.grad(y, leaves, grad_y)]
    means = functional.pool(leaves[0], **options)
    found += [*means, *torch.autograd.grad(means, leaves[:1], means)]
    logits = [each.detach().to(y.dtype).requires_grad_() for each in attention]
    coupled = functional.couple(leaves[0], logits[0], logits[1], **gate, **options)
    found += [coupled, *torch.autograd.grad(coupled, [leaves[0], *logits], grad_y)]
    return [each.detach().cpu() for each in found]


def worst_error(sample: Sample, dtype: torch.dtype, device: str, backend: str) -> float:
    """Largest relative L2 error among the results; infinite where one is not finite."""
    worst = 0.0
    exact = results(sample, dtype, "cpu", "reference")
    least = _NOTHING * max(float(right.norm()) for right in exact)
    for ours, right in zip(results(sample, dtype, device, backend), exact, strict=True):
        size = max(float(right.norm()), least)
        error = float((ours.double() - right).norm()) / size
        worst = max(worst, error) if error == error else float("inf")
    return worst


def _lines(device: str, backends: Sequence[str]) -> Iterator[str]:
    """A line on every call, as they are made; the rest of a backend's are not after an error."""
    for backend in backends:
        for sample, (dtype, bound) in product(samples_of(backend), _BOUNDS.items()):
            name = f"{backend}, {str(dtype).removeprefix('torch.')}, {sample}"
            try:
                error = worst_error(sample, dtype, device, backend)
            except RuntimeError as refused:  # of CUDA, which may serve no other call now
                yield f"{WRONG}  {name}: {str(refused).partition(chr(10))[0]}"
                break
            if reason := BACKENDS[backend].refusal(torch.empty(0, dtype=dtype, device=device)):
                yield f"{WRONG} {backend} handed the call on: {reason}"
            yield f"{'ok   ' if error <= bound else WRONG} {error:.1e}  {name}"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench.gpu_calls",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--device", default="cuda", help="(default: cuda)")
    parser.add_argument("--backend", help="only this one (default: every one that serves)")
    options = parser.parse_args(arguments)
    own = DEVICES["cuda"].own_variants(options.backend)
    backends = [options.backend] if options.backend else [n.partition("-")[2] for n in own]
    if not backends:
        print(f"nothing to call: {DEVICES['cuda'].missing(options.backend)}")
        return 2
    wrong = 0
    for line in _lines(options.device, backends):
        print(line, flush=True)
        wrong += line.startswith(WRONG)
    print(f"{wrong} calls are wrong" if wrong else "all right")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
