"""The layer as a drop-in ``nn.Module``."""

from __future__ import annotations

from typing import TypeGuard

import torch
from torch import Tensor, nn

from csta_fast import backends, checks, functional, reference
from csta_fast.types import Attention, Gate, HeadWeights, Scale


class Head(nn.Module):
    """One of the two subnetworks: scores every position of (N, C, L) from its C means.

    ``w2 @ relu(w1 @ means + b1) + b2``, shared over positions. The last layer starts at zero, so
    a fresh head weighs all positions alike.
    """

    def __init__(self, channels: int, hidden: int, groups: int) -> None:
        super().__init__()
        self.w1 = nn.Parameter(torch.empty(hidden, channels))
        self.b1 = nn.Parameter(torch.empty(hidden))
        self.w2 = nn.Parameter(torch.empty(groups, hidden))
        self.b2 = nn.Parameter(torch.empty(groups))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """He-uniform first layer, zero everything else."""
        if self.w1.numel():
            nn.init.kaiming_uniform_(self.w1, nonlinearity="relu")
        for parameter in (self.b1, self.w2, self.b2):
            nn.init.zeros_(parameter)

    @property
    def weights(self) -> HeadWeights:
        # As attributes of modules, those of both heads take a third of a small call's time.
        own = self._parameters
        try:
            return HeadWeights(own["w1"], own["b1"], own["w2"], own["b2"])  # type: ignore[arg-type]
        except KeyError:  # parametrized, or a replica's
            return HeadWeights(self.w1, self.b1, self.w2, self.b2)

    def forward(self, means: Tensor) -> Tensor:
        """Logits (N, G, L) of means (N, C, L), in the dtype of the arithmetic, under autocast too.

        Raises:
            TypeError: weights of a dtype that ``csta_fast.functional.csta`` would not take.
        """
        weights = HeadWeights(self.w1, self.b1, self.w2, self.b2)
        checks.head_dtypes(means, weights)
        return reference.head(means, weights)

    def extra_repr(self) -> str:
        (hidden, channels), groups = self.w1.shape, self.w2.shape[0]
        return f"{channels} -> {hidden} -> {groups}"


def _is_fused(head: nn.Module | None) -> TypeGuard[Head]:
    """Whether to compute a head with the rest: a built-in one that is nothing but its weights.

    One with hooks is called, because they want to see it, or make its weights (pruning).
    """
    return (
        isinstance(head, Head)
        and type(head).forward is Head.forward
        and not head._forward_pre_hooks
        and not head._forward_hooks
        and not head._backward_pre_hooks
        and not head._backward_hooks
    )


def _reset(module: nn.Module) -> None:
    reset = getattr(module, "reset_parameters", None)
    if callable(reset):
        reset()


class CSTA(nn.Module):
    """Coupled spatial-temporal attention over features (N, C, T, V), fused into one pass.

    A layer after the abstract of arXiv 1909.10214: two heads score the frames and the joints,
    each set of scores is normalised, and x is reweighted by their outer product. With scale
    "mean" a fresh layer is the identity, so it can be put into a trained network.

    Args:
        channels: C, the channels of x.
        hidden: H, the width of the built-in heads; default max(16, C // 4).
        groups: G, attention maps; group g weighs channels g·C/G up to (g+1)·C/G.
        gate: "softmax", or "sigmoid".
        scale: "mean", "sum" or a number; see ``csta_fast.functional.csta``.
        residual: add x to the result.
        frame_head, joint_head: modules (N, C, L) -> (N, G, L) in place of the built-in heads;
            they run between the fused pooling and the fused reweighting, as do built-in ones that
            have hooks. Give one or both.
        backend: the name of a backend to force; see ``csta_fast.explain``.

    Raises:
        TypeError, ValueError: an argument of the wrong type, or out of range.

    Example:
        >>> layer = CSTA(64)
        >>> y = layer(torch.randn(8, 64, 32, 25))
        >>> y, attention = layer(torch.randn(8, 64, 32, 25), return_attention=True)
        >>> attention.frames.shape, attention.joints.shape
        (torch.Size([8, 1, 32]), torch.Size([8, 1, 25]))
    """

    def __init__(
        self,
        channels: int,
        hidden: int | None = None,
        *,
        groups: int = 1,
        gate: Gate = "softmax",
        scale: Scale = "mean",
        residual: bool = False,
        frame_head: nn.Module | None = None,
        joint_head: nn.Module | None = None,
        backend: str | None = None,
    ) -> None:
        super().__init__()
        channels, groups = checks.count("channels", channels), checks.count("groups", groups)
        if channels % groups:
            raise ValueError(f"groups: wanted a divisor of the {channels} channels, got {groups}")
        if hidden is not None and frame_head is not None and joint_head is not None:
            raise ValueError(f"hidden: wanted none beside two heads of your own, got {hidden}")
        hidden = max(16, channels // 4) if hidden is None else checks.count("hidden", hidden)
        checks.choices(gate, scale, residual)
        if backend is not None:
            backends.named(backend, "backend")
        self.channels, self.hidden, self.groups = channels, hidden, groups
        self.gate, self.scale, self.residual = gate, scale, residual
        self.backend = backend
        self.frame_head = self._head("frame_head", frame_head)
        self.joint_head = self._head("joint_head", joint_head)

    def reset_parameters(self) -> None:
        """Start anew: built-in heads as in a fresh layer, others by their own reset_parameters."""
        self.frame_head.apply(_reset)  # which comes to parts before the whole
        self.joint_head.apply(_reset)

    def forward(
        self,
        x: Tensor,
        *,
        lengths: Tensor | None = None,
        frame_mask: Tensor | None = None,
        joint_mask: Tensor | None = None,
        return_attention: bool = False,
    ) -> Tensor | tuple[Tensor, Attention]:
        """Reweight x (N, C, T, V); arguments and result as in ``csta_fast.functional.csta``."""
        frame_head, joint_head = self._modules["frame_head"], self._modules["joint_head"]
        if _is_fused(frame_head) and _is_fused(joint_head):
            return functional.csta(
                x,
                frame_head.weights,
                joint_head.weights,
                lengths=lengths,
                frame_mask=frame_mask,
                joint_mask=joint_mask,
                gate=self.gate,
                scale=self.scale,
                residual=self.residual,
                return_attention=return_attention,
                backend=self.backend,
            )
        checks.features(x)
        checks.channels(x, self.channels, "the layer")
        frame_means, joint_means = functional.pool(
            x,
            lengths=lengths,
            frame_mask=frame_mask,
            joint_mask=joint_mask,
            backend=self.backend,
        )
        frame_logits, joint_logits = self.frame_head(frame_means), self.joint_head(joint_means)
        checks.scores("frame_head", frame_logits, frame_means, self.groups)
        checks.scores("joint_head", joint_logits, joint_means, self.groups)
        return functional.couple(
            x,
            frame_logits,
            joint_logits,
            gate=self.gate,
            scale=self.scale,
            residual=self.residual,
            lengths=lengths,
            frame_mask=frame_mask,
            joint_mask=joint_mask,
            return_attention=return_attention,
            backend=self.backend,
        )

    def _head(self, name: str, own: nn.Module | None) -> nn.Module:
        if own is None:
            return Head(self.channels, self.hidden, self.groups)
        return checks.module(name, own)

    def extra_repr(self) -> str:
        options = f"{self.channels}, groups={self.groups}, gate={self.gate!r}"
        options += f", scale={self.scale!r}, residual={self.residual}"
        return options if self.backend is None else f"{options}, backend={self.backend!r}"
