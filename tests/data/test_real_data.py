"""A small classifier with CSTA learns real actions, alike on every backend."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from csta_fast import CSTA
from csta_fast.data import ClipOptions, Clips, collate, read
from csta_fast.data.clips import Batch

_DATA = Path(os.environ.get("CSTA_FAST_DATA", Path(__file__).parents[3] / "shared" / "data"))
_ARCHIVE = _DATA / "msr_action3d.tar.xz"
_ACTIONS = 20
_LONGEST = 76

pytestmark = pytest.mark.skipif(
    not _ARCHIVE.exists(), reason=f"no recordings at {_ARCHIVE}; CSTA_FAST_DATA names their folder"
)


class _Classifier(nn.Module):
    """Two convolutions over frames and joints with a CSTA layer behind each."""

    def __init__(self, backend: str) -> None:
        super().__init__()
        self.points = nn.Conv2d(6, 32, 1)
        self.first = CSTA(32, residual=True, backend=backend)
        self.frames = nn.Conv2d(32, 32, (5, 1), padding=(2, 0), stride=(2, 1))
        self.second = CSTA(32, groups=4, backend=backend)
        self.actions = nn.Linear(32 * 20, _ACTIONS)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        motion = F.pad(x[:, :, 1:] - x[:, :, :-1], (0, 0, 0, 1))
        x = self.first(F.relu(self.points(torch.cat([x, 5 * motion], 1))), lengths=lengths)
        halved = (lengths + 1) // 2
        x = self.second(F.relu(self.frames(x)), lengths=halved)
        return self.actions(x.sum(2).flatten(1) / halved[:, None])


@lru_cache(maxsize=1)
def _recordings() -> tuple[Batch, Batch]:
    """All recordings of the odd subjects, to train on, and of the even ones, to test on."""
    collection = read(_ARCHIVE, progress=False)
    options = ClipOptions(frames=_LONGEST, fit="pad", unit_size=True, test_crop=1.0)
    train, test = (
        Clips(side, collection.layout, options, persons=1) for side in collection.split()
    )
    return collate(list(train)), collate(list(test))


def _train(backend: str, steps: int) -> tuple[nn.Module, list[float]]:
    torch.manual_seed(0)
    model = _Classifier(backend)
    train, _ = _recordings()
    optimiser = torch.optim.Adam(model.parameters(), lr=3e-3, weight_decay=1e-4)
    losses = []
    for _ in range(steps):
        rows = torch.randint(len(train.labels), (32,))
        scores = model(train.x[rows, ..., 0], train.lengths[rows])
        loss = F.cross_entropy(scores, train.labels[rows])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return model, losses


@pytest.mark.usefixtures("native")
def test_fused_and_reference_loss_curves_agree() -> None:
    _, fused = _train("cpu", 30)
    _, plain = _train("reference", 30)
    assert fused[:10] == pytest.approx(plain[:10], rel=1e-5)
    assert fused == pytest.approx(plain, rel=1e-3)
    assert fused[-1] < 0.9 * fused[0]


@pytest.mark.usefixtures("native")
def test_a_classifier_learns() -> None:
    model, _ = _train("cpu", 300)
    _, test = _recordings()
    with torch.no_grad():
        found = model(test.x[..., 0], test.lengths).argmax(1)
    accuracy = (found == test.labels).float().mean().item()
    assert accuracy > 0.45, f"accuracy {accuracy:.3f}, chance is {1 / _ACTIONS}"
