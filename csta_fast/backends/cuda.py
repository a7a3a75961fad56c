"""The CUDA kernels as a backend: whether their library is here, and which calls they serve.

The library is a file of its own beside the CPU's, because only a PyTorch with CUDA has all that it
calls. It is loaded there and nowhere else, whether or not there is a GPU.
"""

from __future__ import annotations

import ctypes
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from csta_fast.backends.cpu import absence
from csta_fast.compiler import constant_to_the_compiler
from csta_fast.types import COMPUTE_DTYPES, is_channels_last

NAMESPACE = "csta_fast_cuda"
LIBRARY = Path(__file__).parents[1] / "_cuda.abi3.so"

#: Older GPUs have no bfloat16 and no asynchronous copies.
_LEAST_CAPABILITY = (8, 0)

#: Positions are 32 bits wide within a sample, and at least one of them must fit in shared memory.
_MOST_NUMBERS = 2**30
_MOST_CHANNELS_LAST = 4096


def _load() -> tuple[str | None, bool]:
    """Register the library's operators; None, or why there are none, and whether by choice."""
    if torch.version.cuda is None:
        return f"this PyTorch ({torch.__version__}) was built without CUDA", False
    if not LIBRARY.exists():
        return absence(
            LIBRARY, "CUDA",
            "install the CUDA toolkit (or, in this environment, "
            "pip install 'cuda-toolkit[nvcc,cccl]==13.0.*') and run "
            "pip install --force-reinstall --no-deps . in the sources",
        )  # fmt: skip
    try:
        torch.ops.load_library(str(LIBRARY))  # type: ignore[no-untyped-call]
    except (OSError, RuntimeError) as error:
        return f"the CUDA library could not be loaded ({error})", False
    return None, False


#: None where the library is loaded, else one sentence that says why not and what to do.
unavailable: str | None
#: Whether there is none because the build was told to leave it out.
declined: bool
unavailable, declined = _load()


@constant_to_the_compiler
def capability_refusal(device: torch.device) -> str | None:
    """Why an NVIDIA GPU serves no fused kernels of ours, or None; a constant to the compiler."""
    return _ask_capability(device)


@lru_cache(maxsize=64)
def _ask_capability(device: torch.device) -> str | None:
    # Without a driver there are fake tensors only, which are traced for another machine.
    if not torch.cuda.is_available():
        return None
    capability = torch.cuda.get_device_capability(device)
    if capability >= _LEAST_CAPABILITY:
        return None
    has, wanted = (".".join(map(str, each)) for each in (capability, _LEAST_CAPABILITY))
    return f"wants a GPU of compute capability {wanted}, {device} has {has}"


@constant_to_the_compiler
def _runtime_refusal(device: torch.device) -> str | None:
    """Why the library cannot run on a device: an old driver, say, or kernels for other devices."""
    reason = _ask_runtime(device.index)
    return None if reason is None else f"cannot run on {device} ({reason})"


@lru_cache(maxsize=64)
def _ask_runtime(index: int) -> str | None:
    if not torch.cuda.is_available():
        return None
    ask = ctypes.CDLL(str(LIBRARY)).csta_fast_cuda_failure
    ask.argtypes, ask.restype = [ctypes.c_int], ctypes.c_char_p
    with torch.cuda.device(index):  # PyTorch's guard leaves no context on any other device
        reason = ask(index)
    return None if reason is None else str(reason.decode())


def refusal(x: Tensor) -> str | None:
    """Why x cannot be served here, or None."""
    if x.dtype not in COMPUTE_DTYPES:
        return f"does not compute in {x.dtype}"
    if x.device.type != "cuda":
        return f"serves NVIDIA GPUs, x is on {x.device}"
    reason = unavailable or capability_refusal(x.device) or _runtime_refusal(x.device)
    if reason is not None or x.dim() != 4 or torch.compiler.is_exporting():
        return reason  # a limit would confine sizes that are exported as dynamic
    return _size_refusal(x)


def _size_refusal(x: Tensor) -> str | None:
    _, channels, frames, joints = x.shape
    if max(frames * joints, channels * (frames + joints)) > _MOST_NUMBERS:
        return f"takes up to {_MOST_NUMBERS} positions and means of a sample"
    if is_channels_last(x) and channels > _MOST_CHANNELS_LAST:
        return (
            f"takes up to {_MOST_CHANNELS_LAST} channels in channels-last memory, x has {channels}"
        )
    return None
