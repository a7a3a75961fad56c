"""A head that weighs every position alike, for the axis that an attention leaves out."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from csta_fast.layer import Head

# Sigmoid of it is exactly 1 in every floating type, and softmax of equal logits is uniform.
_ALWAYS = 100.0


class UniformHead(Head):
    """Scores (N, G, L) that are all equal, computed with the rest in the fused operation.

    The weights are constants, so they are buffers and no parameters: no optimiser, no
    ``requires_grad_`` and no initialisation of parameters changes them, and
    ``reset_parameters`` restores them. Their names and shapes are those of ``Head``.

    Args:
        head: a fresh one, whose place this one takes.
    """

    def __init__(self, head: Head) -> None:
        nn.Module.__init__(self)
        for name, weight in head.named_parameters():
            self.register_buffer(name, weight.detach())
        nn.init.constant_(self.b2, _ALWAYS)

    def reset_parameters(self) -> None:
        """As in a fresh head, but for the bias: the logit of a weight of one."""
        super().reset_parameters()
        nn.init.constant_(self.b2, _ALWAYS)

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, metadata: Any, strict: bool,
        missing: list[str], unexpected: list[str], errors: list[str],
    ) -> None:  # fmt: skip
        """Refuse weights that were trained: here they would be attention that nobody asked for."""
        for name, wanted in (("w2", 0.0), ("b2", _ALWAYS)):
            given = state_dict.get(prefix + name)
            if not isinstance(given, Tensor) or given.is_meta:
                continue
            if not bool(given.eq(wanted).all()):
                errors.append(
                    f"{prefix}{name}: wanted {wanted:g} everywhere, because this network leaves "
                    "that axis uniform, got the weights of one that attends to it"
                )
        super()._load_from_state_dict(
            state_dict, prefix, metadata, strict, missing, unexpected, errors
        )
