"""HCN: co-occurrence features of skeletons by a hierarchy of convolutions.

Li, Zhong, Xie, Pu, "Co-occurrence Feature Learning from Skeleton Data for Action Recognition and
Detection with Hierarchical Aggregation", IJCAI 2018 (arXiv 1804.06055); layer by layer as its
authors' employer published it (hikvision-research/skelact, 2022).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

_WIDTH = 64  # channels of conv1 and conv4; conv2 and conv3 have half of it
_POOLINGS = 4  # each halves the frames, and the coordinates that conv2 made


class Stream(nn.Module):
    """Position or motion of every person by itself: (R, C, T, V) -> (R, 64, T // 4, 8).

    conv1 looks at a point, conv2 at its neighbours in time. Then joints become channels, so that
    conv3 and conv4 see all of them at once.
    """

    def __init__(self, coordinates: int, joints: int, dropout: float) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(coordinates, _WIDTH, 1)
        self.conv2 = nn.Conv2d(_WIDTH, _WIDTH // 2, (3, 1), padding=(1, 0))
        self.conv3 = nn.Conv2d(joints, _WIDTH // 2, 3, padding=1)
        self.conv4 = nn.Conv2d(_WIDTH // 2, _WIDTH, 3, padding=1)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.co_occurrences(self.conv2(self.points(x)))

    def points(self, x: Tensor) -> Tensor:
        """Features (R, 64, T, V) of every point."""
        return F.relu(self.conv1(x))

    def co_occurrences(self, x: Tensor) -> Tensor:
        """Features (R, 64, T // 4, 8) of all joints together, from (R, 32, T, V)."""
        x = F.max_pool2d(self.conv3(x.transpose(1, 3)), 2)
        features: Tensor = self.dropout(F.max_pool2d(self.conv4(x), 2))
        return features


class HCN(nn.Module):
    """Hierarchical co-occurrence network: scores (N, K) of skeletons (N, C, T, V, M).

    With 60 classes, 25 joints and 64 frames it has the published 1,047,036 parameters.
    ``official_names`` gives the names of its parameters in published checkpoints.

    Args:
        classes: K.
        joints: V.
        frames: T, at least 16; a network takes clips of this length only.
        coordinates: C, 3 for positions in space.
        dropout: probability, after conv4, conv5, conv6 and fc7.
    """

    def __init__(
        self,
        classes: int,
        joints: int = 25,
        frames: int = 64,
        coordinates: int = 3,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        for name, value in (("classes", classes), ("joints", joints), ("coordinates", coordinates)):
            if value < 1:
                raise ValueError(f"{name}: wanted at least 1, got {value}")
        shortest = 2**_POOLINGS
        if frames < shortest:
            raise ValueError(f"frames: wanted at least {shortest}, got {frames}")
        self.classes, self.joints, self.frames = classes, joints, frames
        self.coordinates = coordinates
        self.position = self._stream(coordinates, joints, dropout)
        self.motion = self._stream(coordinates, joints, dropout)
        self.conv5 = nn.Conv2d(2 * _WIDTH, 128, 3, padding=1)
        self.conv6 = nn.Conv2d(128, 256, 3, padding=1)
        self.fc7 = nn.Linear(256 * 2 * (frames // shortest), 256)
        self.fc8 = nn.Linear(256, classes)
        self.dropout = nn.Dropout(dropout)
        self._initialise()

    @staticmethod
    def _stream(coordinates: int, joints: int, dropout: float) -> Stream:
        return Stream(coordinates, joints, dropout)

    def reset_parameters(self) -> None:
        """Xavier-uniform convolutions, linear layers from N(0, 0.01), biases zero; as published.

        After the same seed the weights are those of a fresh network.
        """
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                module.reset_parameters()  # draws the numbers that its constructor drew
        self._initialise()

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.xavier_uniform_(module.weight)
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.01)
            if isinstance(module, (nn.Conv2d, nn.Linear)) and module.bias is not None:
                nn.init.zeros_(module.bias)

    def forward(
        self, x: Tensor, *, persons: Tensor | None = None, lengths: Tensor | None = None
    ) -> Tensor:
        """Scores (N, K) of clips.

        Args:
            x: (N, C, T, V, M) positions of up to M persons, zero where there is none.
            persons: (N,) integers; in sample n only the first ``persons[n]`` persons (at least
                one) are looked at, the others cost nothing. Without it all M count, as published.
            lengths: (N,) integers; the frames from ``lengths[n]`` on are padding and do not move.

        Raises:
            TypeError, ValueError: x is not of the shape that the network was made for, or persons
                or lengths are not one number for each sample.
        """
        rows, present, row_lengths = self.rows(x, persons, lengths)
        position = self.position(rows)
        motion = self.motion(differences(rows, row_lengths))
        return self.classify(torch.cat((position, motion), 1), present)

    def rows(
        self, x: Tensor, persons: Tensor | None, lengths: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Persons as samples: (R, C, T, V), which of the (N, M) they are, and their lengths (R,).

        ``present`` is (N, M) of booleans, R of them true.
        """
        wanted = (self.coordinates, self.frames, self.joints)
        if not isinstance(x, Tensor) or not x.is_floating_point():
            got = x.dtype if isinstance(x, Tensor) else type(x).__name__
            raise TypeError(f"x: wanted a floating-point tensor, got {got}")
        if x.dim() != 5 or x.shape[1:4] != wanted or x.shape[4] == 0:
            raise ValueError(
                f"x: wanted (N, {', '.join(map(str, wanted))}, M), got shape {tuple(x.shape)}"
            )
        samples, people = x.shape[0], x.shape[4]
        for name, given in (("persons", persons), ("lengths", lengths)):
            if given is not None:
                _one_number_each(name, given, samples)
        rows = x.permute(0, 4, 1, 2, 3)
        everyone = torch.ones(samples, people, dtype=torch.bool, device=x.device)
        if persons is None or people == 1:
            present, rows = everyone, rows.flatten(0, 1)
        else:
            numbers = torch.arange(people, device=x.device)
            present = numbers < persons.clamp(min=1)[:, None]
            rows = rows[present]
        if lengths is not None:
            lengths = lengths[:, None].expand(samples, people)[present]
        return rows.contiguous(), present, lengths

    def classify(self, features: Tensor, present: Tensor) -> Tensor:
        """Scores (N, K), from both streams' features (R, 128, T // 4, 8) of the persons present.

        The persons of a sample meet here: every feature is the largest that one of them has.
        """
        features = self.dropout(F.relu(F.max_pool2d(self.conv5(features), 2)))
        features = F.relu(F.max_pool2d(self.conv6(features), 2)).flatten(1)
        everyone = features.new_full((*present.shape, features.shape[1]), -torch.inf)
        together = everyone.masked_scatter(present[..., None], features).max(1).values
        scores: Tensor = self.fc8(self.dropout(F.relu(self.fc7(self.dropout(together)))))
        return scores

    def extra_repr(self) -> str:
        return f"({self.coordinates}, {self.frames}, {self.joints}) -> {self.classes}"


def _one_number_each(name: str, given: Tensor, samples: int) -> None:
    if not isinstance(given, Tensor):
        raise TypeError(f"{name}: wanted a tensor, got {type(given).__name__}")
    if given.shape != (samples,):
        raise ValueError(f"{name}: wanted shape (N,) = ({samples},), got {tuple(given.shape)}")


def differences(x: Tensor, lengths: Tensor | None = None) -> Tensor:
    """Motion (R, C, T, V): what each frame adds to the one before; zero at first and in padding."""
    motion = F.pad(x[:, :, 1:] - x[:, :, :-1], (0, 0, 1, 0))
    if lengths is None:
        return motion
    real = torch.arange(x.shape[2], device=x.device) < lengths[:, None]
    return motion.where(real[:, None, :, None], 0)


def official_names(checkpoint: dict[str, Tensor]) -> dict[str, Tensor]:
    """The parameters of a published HCN checkpoint under the names that ``HCN`` gives them.

    Args:
        checkpoint: the ``state_dict`` of hikvision-research/skelact for HCN without batch
            normalisation. Load it with ``torch.load(..., weights_only=True)``.

    Raises:
        ValueError: a parameter that HCN does not have.
    """
    streams = {"net_l": "position", "net_m": "motion"}
    layers = {"0": "conv1", "2": "conv2", "4": "conv3", "6": "conv4"}
    tops = {"conv5.0": "conv5", "conv6.0": "conv6", "fc7.0": "fc7"}
    table = {
        f"backbone.{theirs}.{number}": f"{ours}.{layer}"
        for theirs, ours in streams.items()
        for number, layer in layers.items()
    }
    table |= {f"backbone.{theirs}": ours for theirs, ours in tops.items()} | {"cls_head.fc": "fc8"}
    renamed = {}
    for name, parameter in checkpoint.items():
        module, _, kind = name.rpartition(".")
        if module not in table:
            raise ValueError(f"checkpoint: wanted the parameters of HCN, got {name!r}")
        renamed[f"{table[module]}.{kind}"] = parameter
    return renamed
