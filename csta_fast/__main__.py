"""``python -m csta_fast``: what is installed, whether it computes right, and what to fix."""

from __future__ import annotations

import argparse
import os
import platform
import re
import sys
from collections.abc import Iterator
from importlib import metadata
from typing import NamedTuple

import torch
from torch import Tensor

from csta_fast import backends, functional
from csta_fast.backends import cpu, cuda, triton
from csta_fast.types import COMPUTE_DTYPES, HeadWeights
from csta_fast.version import __version__

_DESCRIPTION = """\
Check an installation of csta_fast: its versions, the backends and which of them serves a call,
a self-test of about one second, and what to do about whatever is not as it could be.
"""

_EPILOG = """\
self-test: every backend, on a GPU where there is one, computes the layer and its gradients in every
dtype, with masked frames, groups, and both gates. Its error against the reference in float64 is
printed relative to the largest value, and must not exceed a few roundings.

environment variables:
  CSTA_FAST_BACKEND=NAME   use this backend for every call (read at import)
  CSTA_FAST_ISA=NAME       use at most this instruction set: portable, avx2, avx512
  CSTA_FAST_NATIVE=0       when installing: leave all kernels but Triton's out; 1: fail without
  CSTA_FAST_CUDA=0         when installing: leave the CUDA kernels out; 1: fail without them
  OMP_NUM_THREADS=N        threads of PyTorch and of the kernels

exit status: 0 if the self-test passed, with or without native kernels; 1 if it failed.
"""

_OLDEST_TORCH = (2, 10)
_WARM_HEAP = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "17179869184"}


class Case(NamedTuple):
    """One call of the layer, in float64."""

    x: Tensor  # (N, C, T, V)
    weights: tuple[Tensor, ...]  # of both heads
    upstream: Tensor  # (N, C, T, V)
    lengths: Tensor  # (N,)
    gate: str
    residual: bool

    def to(self, dtype: torch.dtype) -> Case:
        """The same call in another dtype, rounded."""
        weights = tuple(weight.to(COMPUTE_DTYPES[dtype]) for weight in self.weights)
        return self._replace(x=self.x.to(dtype), weights=weights, upstream=self.upstream.to(dtype))

    def on(self, device: str) -> Case:
        """The same call on a device."""
        weights = tuple(weight.to(device) for weight in self.weights)
        x, upstream, lengths = (each.to(device) for each in (self.x, self.upstream, self.lengths))
        return self._replace(x=x, weights=weights, upstream=upstream, lengths=lengths)

    def evaluate(self, backend: str) -> tuple[Tensor, Tensor, Tensor]:
        """y, the gradient of x, and the gradients of all weights in one row."""
        inputs = [tensor.clone().requires_grad_() for tensor in (self.x, *self.weights)]
        y = functional.csta(
            inputs[0],
            HeadWeights(*inputs[1:5]),
            HeadWeights(*inputs[5:]),
            lengths=self.lengths,
            gate="sigmoid" if self.gate == "sigmoid" else "softmax",
            residual=self.residual,
            backend=backend,
        )
        grad_x, *grad_weights = torch.autograd.grad(y, inputs, self.upstream)
        return y.detach(), grad_x, torch.cat([gradient.flatten() for gradient in grad_weights])


def example(groups: int, gate: str, residual: bool) -> Case:
    """A call with every feature of the layer, and sizes that no vector width divides."""
    generator = torch.Generator().manual_seed(groups)
    samples, channels, frames, joints, hidden = 5, 24, 37, 25, 16

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    shapes = [(hidden, channels), (hidden,), (groups, hidden), (groups,)] * 2
    lengths = torch.tensor([frames, 1, 20, 0, 30])
    x, upstream = (
        normal(samples, channels, frames, joints),
        normal(samples, channels, frames, joints),
    )
    return Case(x, tuple(normal(*shape) for shape in shapes), upstream, lengths, gate, residual)


def relative_error(result: Tensor, exact: Tensor) -> float:
    """Largest difference over the largest exact value."""
    difference = (result.double() - exact).abs().max()
    return float(difference / exact.abs().max())


def bound(result: Tensor) -> float:
    """What a result may differ by: its own rounding, and some in the type it is computed in."""
    arithmetic = COMPUTE_DTYPES[result.dtype]
    return torch.finfo(result.dtype).eps + 64 * torch.finfo(arithmetic).eps


def self_test(backend: str, dtype: torch.dtype, device: str) -> tuple[float, float, bool]:
    """Error of y and largest error of a gradient of one backend, and whether both are small."""
    forward = backward = 0.0
    passed = True
    for groups, gate, residual in ((1, "softmax", False), (4, "sigmoid", True)):
        case = example(groups, gate, residual).to(dtype)
        results = [result.cpu() for result in case.on(device).evaluate(backend)]
        exact = case.to(torch.float64).evaluate("reference")
        errors = [relative_error(*pair) for pair in zip(results, exact, strict=True)]
        passed &= all(error <= bound(result) for error, result in zip(errors, results, strict=True))
        forward, backward = max(forward, errors[0]), max(backward, *errors[1:])
    return forward, backward, passed


def print_installation() -> None:
    built = "loaded" if cpu.unavailable is None else "not loaded"
    for name, value in (
        ("csta_fast", __version__),
        ("torch", torch.__version__),
        ("numpy", metadata.version("numpy")),
        ("python", platform.python_version()),
        ("platform", platform.platform()),
        ("native library", f"{cpu.LIBRARY} ({built})"),
        ("instruction set", cpu.instruction_set()),
        ("threads", str(torch.get_num_threads())),
        ("CUDA library", _state_of_cuda()),
        ("triton", _version_of_triton()),
        ("GPU", torch.cuda.get_device_name() if torch.cuda.is_available() else "none"),
    ):
        print(f"{name:16} {value}")


def _state_of_cuda() -> str:
    return f"{cuda.LIBRARY} (loaded)" if cuda.unavailable is None else (f"none: {cuda.unavailable}")


def _version_of_triton() -> str:
    if triton.unavailable is not None:
        return f"none: {triton.unavailable}"
    return metadata.version("triton") + (" (interpreted)" if triton.INTERPRETED else "")


def _serves(backend: backends.Backend, dtype: torch.dtype, device: str) -> bool:
    """Whether the backend can be tested there; an interpreter is no installation to be tested."""
    if backend.name == "triton" and triton.INTERPRETED:
        return False
    return backend.refusal(torch.empty(0, dtype=dtype, device=device)) is None


def print_self_test() -> bool:
    """Run the self-test of every backend and dtype; True if all of them passed."""
    print(f"\nself-test        {'dtype':9} error of y   of gradients")
    all_passed = True
    devices = ("cuda", "cpu") if torch.cuda.is_available() else ("cpu",)
    for name, backend in backends.BACKENDS.items():
        for dtype in COMPUTE_DTYPES:
            device = next((each for each in devices if _serves(backend, dtype, each)), None)
            if device is None:
                continue
            label = f"{name:16} {str(dtype).removeprefix('torch.'):9}"
            try:
                forward, backward, passed = self_test(name, dtype, device)
            except RuntimeError as error:
                print(f"{label} FAILED: {error}")
                passed = False
            else:
                verdict = "ok" if passed else "WRONG"
                print(f"{label} {forward:10.1e} {backward:14.1e}   {verdict}")
            all_passed &= passed
    return all_passed


def advice() -> Iterator[str]:
    """What is not as it could be, each with its remedy."""
    if tuple(map(int, re.findall(r"\d+", torch.__version__)[:2])) < _OLDEST_TORCH:
        yield f"torch {torch.__version__} is too old: pip install 'torch>=2.10'"
    if cpu.unavailable is not None:
        yield f"no native kernels, only the slower reference serves: {cpu.unavailable}"
    mistake = cpu.misnamed()
    if mistake is not None:
        yield mistake
    if backends.FORCED is not None and backends.FORCED not in backends.BACKENDS:
        known = ", ".join(backends.BACKENDS)
        yield (
            f"CSTA_FAST_BACKEND: wanted one of {known}, got {backends.FORCED!r}: no call can be "
            "served, unset it"
        )
    elif backends.FORCED is not None:
        yield (
            f"CSTA_FAST_BACKEND={backends.FORCED} forces one backend for every call, and a call "
            "that it cannot serve is an error: unset it to let each call find its backend"
        )
    if sys.platform == "linux":
        huge_pages = os.environ.get("THP_MEM_ALLOC_ENABLE") == "1"
        warm_heap = all(name in os.environ for name in _WARM_HEAP)
        variables = " ".join(f"{name}={value}" for name, value in _WARM_HEAP.items())
        if not huge_pages and not warm_heap:
            yield (
                "large tensors come in fresh memory at every call, and touching it can cost more "
                f"than the kernels: start Python with {variables} (freed memory stays in the "
                "process; the fastest), or with THP_MEM_ALLOC_ENABLE=1 (huge pages)"
            )
        if huge_pages and warm_heap:
            yield (
                "THP_MEM_ALLOC_ENABLE=1 together with a warm heap (MALLOC_*) fragments the heap "
                "and may be far slower than either: unset one"
            )


def main(arguments: list[str] | None = None) -> int:
    """Print the report; the exit status."""
    parser = argparse.ArgumentParser(
        "python -m csta_fast",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--no-self-test", action="store_true", help="only report, compute nothing")
    options = parser.parse_args(arguments)
    print_installation()
    for device in ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",):
        print(f"\nbackends for a float32 tensor on {device}, the serving one marked")
        try:
            print(backends.explain(torch.empty(1, 1, 1, 1, device=device)))
        except ValueError as error:
            print(error)
    passed = options.no_self_test or print_self_test()
    for number, remedy in enumerate(advice(), 1):
        print(f"\n{number}. {remedy}")
    if not passed:
        print("\nThe self-test failed: results of this installation cannot be trusted.")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
