"""What attention costs a whole network: inference and training steps of HCN and of CSTA-CNN."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from bench.timing import Variant
from csta_fast.models import CSTACNN, HCN

#: The network without attention: what it costs is measured against it.
BASE = "hcn"
NAMES = (BASE, "eager", "csta_fast", "csta_fast-persons")
DIRECTIONS = ("forward", "step")
_CLASSES = 60
_LOSS_TOLERANCE = 1e-4


class Clips(NamedTuple):
    """A batch of clips (N, 3, T, V, M)."""

    samples: int
    frames: int = 64
    joints: int = 25
    persons: int = 2

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.samples, 3, self.frames, self.joints, self.persons)


#: A batch of NTU RGB+D for HCN, and one small enough for continuous integration.
SIZES = {"networks": Clips(32), "smoke": Clips(2, 16, 20, 1)}


def _persons(clips: Clips) -> Tensor:
    """How many are there: two in every fifth clip, about as often as in NTU RGB+D."""
    numbers = torch.arange(clips.samples)
    return torch.where(numbers % 5 == 0, clips.persons, 1)


def _network(name: str, clips: Clips, backend: str | None) -> HCN:
    """The same weights under every name."""
    torch.manual_seed(0)
    if name == BASE:
        network = HCN(_CLASSES, clips.joints, clips.frames, dropout=0.0)
    else:
        chosen = "reference" if name == "eager" else backend
        network = CSTACNN(_CLASSES, clips.joints, clips.frames, dropout=0.0, backend=chosen)
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def _infer(network: HCN, x: Tensor, persons: Tensor | None) -> Tensor:
    with torch.inference_mode():
        return network(x, persons=persons)


def _step(
    network: HCN,
    optimiser: torch.optim.Optimizer,
    x: Tensor,
    persons: Tensor | None,
    labels: Tensor,
) -> Tensor:
    loss = F.cross_entropy(network(x, persons=persons), labels)
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    return loss.detach()


def _agrees(expected: Tensor, found: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=_LOSS_TOLERANCE, atol=_LOSS_TOLERANCE)


def variants(direction: str, clips: Clips, backend: str | None) -> list[Variant]:
    """Calls on one batch; a fresh CSTA-CNN computes what HCN does, which is what is checked.

    ``csta_fast-persons`` is told how many persons each clip shows, the others look at all.
    """
    torch.manual_seed(1)
    x, labels = torch.randn(clips.shape), torch.randint(_CLASSES, (clips.samples,))
    plain = _network(BASE, clips, backend).eval()
    found = []
    for name in NAMES:
        persons = _persons(clips) if name.endswith("persons") else None
        network = _network(name, clips, backend)
        _agrees(_infer(plain, x, persons), _infer(network.eval(), x, persons))
        call: Callable[[], Tensor] = partial(_infer, network, x, persons)
        if direction == "step":
            optimiser = torch.optim.Adam(network.train().parameters(), 1e-6)
            call = partial(_step, network, optimiser, x, persons, labels)
        found.append(Variant(name, call))
    return found
