"""Runs operations in ever more memory, until there is enough; for an interpreter of its own.

Every failure on the way must be the exception that PyTorch itself raises.
"""

from __future__ import annotations

import importlib.util
import resource
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from torch._functorch import config as functorch_config

from csta_fast import HeadWeights, functional

_STEP = 256 * 1024


def _limit(more: int) -> None:
    """Let the process have so many bytes more than it has."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(
        resource.RLIMIT_AS, (pages * resource.getpagesize() + more, resource.RLIM_INFINITY)
    )


def _unlimited() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def _room_for_small_objects() -> list[bytearray]:
    """Free memory of the heap in pieces between these, so that only what is larger can fail.

    PyTorch crashes where it has no memory for the backtrace of an exception.
    """
    pieces = [(bytearray(60_000), bytearray(1000)) for _ in range(64)]
    return [between for _, between in pieces]


def _of_plain_pytorch() -> RuntimeError:
    _limit(0)
    try:
        torch.empty(2**30)
    except RuntimeError as error:
        return error
    finally:
        _unlimited()
    raise AssertionError("there was memory")


def _lightning_knows(error: Exception) -> bool:
    if importlib.util.find_spec("lightning") is None:
        return True
    from lightning.pytorch.utilities.memory import is_oom_error

    return bool(is_oom_error(error))


def failures(call: Callable[[], object], steps: int) -> list[Exception]:
    """What a call raises as the memory that is left grows, until it raises nothing."""
    found: list[Exception] = []
    for step in range(steps):
        _limit(step * _STEP)
        try:
            call()
        except Exception as error:
            found.append(error)
        else:
            return found
        finally:
            _unlimited()
    return found


def calls(backend: str, samples: int) -> dict[str, Callable[[], object]]:
    """Calls of every operation, forward and backward, by name."""
    channels, frames, joints, hidden = 64, 80, 25, 512
    x = torch.randn(samples, channels, frames, joints)
    strided = torch.randn(samples, channels, joints, frames).transpose(2, 3)
    head = HeadWeights(
        torch.randn(hidden, channels), torch.randn(hidden), torch.randn(channels, hidden),
        torch.randn(channels),
    )  # fmt: skip
    weights = [weight.requires_grad_() for weight in (*head, *(each.clone() for each in head))]
    logits = [torch.randn(samples, channels, size).requires_grad_() for size in (frames, joints)]

    def csta(x: Tensor) -> Tensor:
        pair = HeadWeights(*weights[:4]), HeadWeights(*weights[4:])
        return functional.csta(x, *pair, backend=backend)

    def couple(x: Tensor) -> Tensor:
        return functional.couple(x, logits[0], logits[1], backend=backend)

    def pool(x: Tensor) -> Tensor:
        frame_means, _ = functional.pool(x, backend=backend)
        return frame_means

    functorch_config.donated_buffer = False  # else a backward runs but once
    compiled = torch.compile(csta, backend="aot_eager")
    compiled(x.clone().requires_grad_()).sum().backward()
    found: dict[str, Callable[[], object]] = {}
    wide = torch.randn(samples, 16 * channels, frames, 4)  # whose means are large
    strided_wide = torch.randn(samples, 16 * channels, 4, frames).transpose(2, 3)
    for operation, given, copied in (
        (csta, x, strided), (couple, x, strided), (pool, wide, strided_wide),
    ):  # fmt: skip
        name = operation.__name__
        found[name] = partial(operation, given)
        found[f"{name}, copied"] = partial(operation, copied)
        found[f"{name}, backward"] = _backward(operation, given.clone().requires_grad_())
    found["csta, compiled"] = partial(compiled, x)
    found["csta, compiled, backward"] = _backward(compiled, x.clone().requires_grad_())
    return found


def _backward(operation: Callable[[Tensor], Tensor], x: Tensor) -> Callable[[], object]:
    y = operation(x)
    upstream = torch.randn_like(y)

    def run() -> object:
        x.grad = None
        return torch.autograd.grad(y, x, upstream, retain_graph=True)

    return run


def main(backend: str, samples: int, steps: int = 400) -> None:
    """Run all calls on a thread, whose stack, other than the process's, need not grow."""
    threading.stack_size(2**24)
    thread = threading.Thread(target=_main, args=(backend, samples, steps))
    thread.start()
    thread.join()


def _main(backend: str, samples: int, steps: int) -> None:
    room = _room_for_small_objects()
    expected = _of_plain_pytorch()
    words = "DefaultCPUAllocator: can't allocate memory: you tried to allocate"
    assert words in str(expected), expected
    failing = set()
    for name, call in calls(backend, samples).items():
        call()
        found = failures(call, steps)
        if found:
            failing.add(name)
        for error in found:
            assert type(error) is type(expected), f"{name}: {error!r}"
            assert len(error.args) == 1, f"{name}: {error!r}"
            assert words in str(error), f"{name}: {error!r}"
            assert _lightning_knows(error), f"{name}: {error!r}"
        amounts = {str(error).partition(words)[2].partition("bytes")[0].strip() for error in found}
        print(f"{name}: {len(found)} failures, of {', '.join(sorted(amounts))} bytes")
    # The heap may have as much as a call of the others allocates.
    assert {"csta", "csta, backward"} <= failing, failing
    assert len(failing) >= 7, failing
    assert room
    print("all right")
