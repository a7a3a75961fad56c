"""The three operations: ``csta`` (the whole layer), ``pool`` and ``couple`` (its two ends).

Features x are (N, C, T, V): samples, channels, frames, joints; float64, float32, float16 or
bfloat16; contiguous or channels-last. Any other strides cost one copy to contiguous memory.
Arithmetic is float32 (float64 for float64), with one rounding at the end.

All three differentiate (twice, and under ``torch.func``), compile, export, and share these
arguments:

``lengths`` (N,) int64
    Frames t < lengths[n] are real. Frames beyond are not read (with ``residual``: copied).
``frame_mask`` (N, T) bool, ``joint_mask`` (N, V) or (V,) bool
    True = real. Together with ``lengths``, a frame is real where both say so.
``backend``
    The name of a backend to force; see ``csta_fast.explain``.

Whatever stands at a position that is not real, NaN included, reaches no result.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, overload

import torch
from torch import Tensor

from csta_fast import checks, reference
from csta_fast.backends import select
from csta_fast.types import COMPUTE_DTYPES, Attention, Gate, HeadWeights, Scale


def _run(name: str, check: Callable[[], None], x: Tensor, backend: str | None, *args: Any) -> Any:
    """Call an operation, with its arguments checked at no cost to the calls that are right.

    A native backend refuses bad arguments itself, tersely; only then are they looked at again to
    say what was wrong. Any other backend's arguments are checked first.
    """
    compiling = torch.compiler.is_compiling()
    traced = compiling or torch._C._is_tracing()
    if not compiling:
        try:
            serving = select(x, backend, traced=traced)
            if serving.validates:
                return getattr(serving, name)(*args)
        except (AttributeError, RuntimeError, TypeError, ValueError):
            check()
            raise
    check()
    return getattr(select(x, backend, traced=traced), name)(*args)


def _widened(x: Tensor, head: HeadWeights) -> HeadWeights:
    """Under autocast of x's device: weights of a 16-bit type that is not x's, in float32.

    Linear layers take such a mixture there too, and round all of it; this rounds nothing.
    """
    if not reference.autocasts(x.device.type) or COMPUTE_DTYPES.get(x.dtype) != torch.float32:
        return head
    narrow = {torch.float16, torch.bfloat16} - {x.dtype}
    return HeadWeights(*(w.to(torch.float32) if w.dtype in narrow else w for w in head))


@overload
def csta(x: Tensor, frame_head: HeadWeights, joint_head: HeadWeights, *,
         lengths: Tensor | None = None, frame_mask: Tensor | None = None,
         joint_mask: Tensor | None = None, gate: Gate = "softmax", scale: Scale = "mean",
         residual: bool = False, return_attention: Literal[False] = False,
         backend: str | None = None) -> Tensor: ...  # fmt: skip
@overload
def csta(x: Tensor, frame_head: HeadWeights, joint_head: HeadWeights, *,
         lengths: Tensor | None = None, frame_mask: Tensor | None = None,
         joint_mask: Tensor | None = None, gate: Gate = "softmax", scale: Scale = "mean",
         residual: bool = False, return_attention: Literal[True],
         backend: str | None = None) -> tuple[Tensor, Attention]: ...  # fmt: skip
@overload
def csta(x: Tensor, frame_head: HeadWeights, joint_head: HeadWeights, *,
         lengths: Tensor | None = None, frame_mask: Tensor | None = None,
         joint_mask: Tensor | None = None, gate: Gate = "softmax", scale: Scale = "mean",
         residual: bool = False, return_attention: bool,
         backend: str | None = None) -> Tensor | tuple[Tensor, Attention]: ...  # fmt: skip
def csta(
    x: Tensor,
    frame_head: HeadWeights,
    joint_head: HeadWeights,
    *,
    lengths: Tensor | None = None,
    frame_mask: Tensor | None = None,
    joint_mask: Tensor | None = None,
    gate: Gate = "softmax",
    scale: Scale = "mean",
    residual: bool = False,
    return_attention: bool = False,
    backend: str | None = None,
) -> Tensor | tuple[Tensor, Attention]:
    """Coupled spatial-temporal attention: pool, score, gate and reweight x in one pass over it.

    ``y = x * (residual + scale * a_frames ⊗ a_joints)``, with the attention from two heads over
    the means of x (after the abstract of arXiv 1909.10214; see docs/definition.md).

    Args:
        x: features (N, C, T, V).
        frame_head, joint_head: weights ``HeadWeights(w1 (H, C), b1 (H,), w2 (G, H), b2 (G,))``;
            C divisible by the number of groups G, H may differ between the two. Of x's dtype or
            that of the arithmetic; under autocast of any that autocast mixes, all but float64.
        lengths, frame_mask, joint_mask, backend: see the module.
        gate: "softmax" over the real frames and the real joints, or "sigmoid".
        scale: "mean" (with softmax: real frames × real joints, so that uniform attention is the
            identity; with sigmoid: 1), "sum" (1), or a number.
        residual: add x to the result.
        return_attention: also return the weights, differentiable like y.

    Returns:
        y of x's shape, dtype and memory layout; with ``return_attention`` the pair of y and
        ``Attention(frames (N, G, T), joints (N, G, V))`` in the dtype of the arithmetic.

    Raises:
        TypeError, ValueError: an argument of the wrong type, shape, dtype or device.
    """
    code, factor = checks.choices(gate, scale, residual)

    def check() -> None:
        checks.heads(x, checks.features(x), frame_head, joint_head)
        checks.masks(x, lengths, frame_mask, joint_mask)

    try:
        if torch._C._is_any_autocast_enabled():
            frame_head, joint_head = _widened(x, frame_head), _widened(x, joint_head)
        frame_w1, frame_b1, frame_w2, frame_b2 = frame_head
        joint_w1, joint_b1, joint_w2, joint_b2 = joint_head
    except (AttributeError, TypeError, ValueError):
        check()
        raise
    y, frames, joints = _run(
        "csta", check, x, backend,
        x, frame_w1, frame_b1, frame_w2, frame_b2, joint_w1, joint_b1, joint_w2, joint_b2,
        lengths, frame_mask, joint_mask, code, factor, residual,
    )  # fmt: skip
    return (y, Attention(frames, joints)) if return_attention else y


def pool(
    x: Tensor,
    *,
    lengths: Tensor | None = None,
    frame_mask: Tensor | None = None,
    joint_mask: Tensor | None = None,
    backend: str | None = None,
) -> tuple[Tensor, Tensor]:
    """Mean of x over its joints and over its frames, for attention modules with their own heads.

    Args:
        x: features (N, C, T, V).
        lengths, frame_mask, joint_mask, backend: see the module.

    Returns:
        frame means (N, C, T) and joint means (N, C, V) in x's dtype, over real positions only;
        0 at positions that are not real.

    Raises:
        TypeError, ValueError: an argument of the wrong type, shape, dtype or device.
    """

    def check() -> None:
        checks.features(x)
        checks.masks(x, lengths, frame_mask, joint_mask)

    frame_means, joint_means = _run("pool", check, x, backend, x, lengths, frame_mask, joint_mask)
    return frame_means, joint_means


@overload
def couple(x: Tensor, frame_logits: Tensor, joint_logits: Tensor, *, gate: Gate = "softmax",
           scale: Scale = "mean", residual: bool = False, lengths: Tensor | None = None,
           frame_mask: Tensor | None = None, joint_mask: Tensor | None = None,
           return_attention: Literal[False] = False,
           backend: str | None = None) -> Tensor: ...  # fmt: skip
@overload
def couple(x: Tensor, frame_logits: Tensor, joint_logits: Tensor, *, gate: Gate = "softmax",
           scale: Scale = "mean", residual: bool = False, lengths: Tensor | None = None,
           frame_mask: Tensor | None = None, joint_mask: Tensor | None = None,
           return_attention: Literal[True],
           backend: str | None = None) -> tuple[Tensor, Attention]: ...  # fmt: skip
@overload
def couple(x: Tensor, frame_logits: Tensor, joint_logits: Tensor, *, gate: Gate = "softmax",
           scale: Scale = "mean", residual: bool = False, lengths: Tensor | None = None,
           frame_mask: Tensor | None = None, joint_mask: Tensor | None = None,
           return_attention: bool,
           backend: str | None = None) -> Tensor | tuple[Tensor, Attention]: ...  # fmt: skip
def couple(
    x: Tensor,
    frame_logits: Tensor,
    joint_logits: Tensor,
    *,
    gate: Gate = "softmax",
    scale: Scale = "mean",
    residual: bool = False,
    lengths: Tensor | None = None,
    frame_mask: Tensor | None = None,
    joint_mask: Tensor | None = None,
    return_attention: bool = False,
    backend: str | None = None,
) -> Tensor | tuple[Tensor, Attention]:
    """Gate two sets of logits and reweight x by the outer product of the weights.

    Args:
        x: features (N, C, T, V).
        frame_logits, joint_logits: (N, G, T) and (N, G, V), any floating dtype, C divisible by G.
        gate, scale, residual, return_attention: as in ``csta``.
        lengths, frame_mask, joint_mask, backend: see the module.

    Returns:
        as ``csta``.

    Raises:
        TypeError, ValueError: an argument of the wrong type, shape, dtype or device.
    """
    code, factor = checks.choices(gate, scale, residual)

    def check() -> None:
        checks.features(x)
        checks.logits(x, frame_logits, joint_logits)
        checks.masks(x, lengths, frame_mask, joint_mask)

    y, frames, joints = _run(
        "couple", check, x, backend,
        x, frame_logits, joint_logits, lengths, frame_mask, joint_mask, code, factor, residual,
    )  # fmt: skip
    return (y, Attention(frames, joints)) if return_attention else y
