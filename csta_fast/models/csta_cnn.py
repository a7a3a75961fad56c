"""CSTA-CNN: the hierarchical CNN HCN with coupled spatial-temporal attention plugged in."""

from __future__ import annotations

from typing import Literal, get_args, overload

import torch
from torch import Tensor

from csta_fast.layer import CSTA
from csta_fast.models.hcn import HCN, Stream, differences
from csta_fast.models.uniform import UniformHead
from csta_fast.types import Attention, Gate, Scale

Axes = Literal["both", "joints", "frames", "none"]
Place = Literal["input", "conv1", "conv2"]
Streams = Literal["both", "position", "motion"]


class AttentiveStream(Stream):
    """A stream of HCN whose features are reweighted at one place."""

    def __init__(
        self, coordinates: int, joints: int, dropout: float, attention: CSTA, place: Place
    ) -> None:
        super().__init__(coordinates, joints, dropout)
        self.attention = attention
        self.place = place

    def attend(self, x: Tensor, lengths: Tensor | None) -> tuple[Tensor, Attention]:
        """Features (R, 64, T // 4, 8) and the attention (R, G, T) and (R, G, V) they came by."""
        if self.place == "input":
            x, attention = self._reweigh(x, lengths)
            return self.co_occurrences(self.conv2(self.points(x))), attention
        x = self.points(x)
        if self.place == "conv1":
            x, attention = self._reweigh(x, lengths)
            return self.co_occurrences(self.conv2(x)), attention
        x, attention = self._reweigh(self.conv2(x), lengths)
        return self.co_occurrences(x), attention

    def _reweigh(self, x: Tensor, lengths: Tensor | None) -> tuple[Tensor, Attention]:
        result = self.attention(x, lengths=lengths, return_attention=True)
        return result[0], result[1]


class CSTACNN(HCN):
    """HCN with CSTA at a chosen place: scores (N, K) of skeletons (N, C, T, V, M).

    After the abstract of arXiv 1909.10214, whose full text was not read: docs/definition.md says
    what was chosen here, and by which option. A fresh network computes what HCN computes.

    Args:
        classes, joints, frames, coordinates, dropout: as of ``HCN``.
        axes: what has weights: "both" is CSTA; "joints" or "frames" alone leaves the other axis
            uniform; "none" is HCN.
        place: whose features are reweighted: "input", or those after "conv1" or "conv2".
        streams: in which stream: "both", "position", or "motion".
        groups, hidden, gate, scale, residual, backend: as of ``csta_fast.CSTA``. By default one
            group, which is one map for all channels.

    Raises:
        ValueError: one of the words is none of those listed.
    """

    def __init__(
        self,
        classes: int,
        joints: int = 25,
        frames: int = 64,
        coordinates: int = 3,
        dropout: float = 0.5,
        *,
        axes: Axes = "both",
        place: Place = "conv1",
        streams: Streams = "both",
        groups: int = 1,
        hidden: int | None = None,
        gate: Gate = "softmax",
        scale: Scale = "mean",
        residual: bool = False,
        backend: str | None = None,
    ) -> None:
        for name, value, known in (
            ("axes", axes, get_args(Axes)),
            ("place", place, get_args(Place)),
            ("streams", streams, get_args(Streams)),
        ):
            if value not in known:
                raise ValueError(f"{name}: wanted one of {', '.join(known)}, got {value!r}")
        super().__init__(classes, joints, frames, coordinates, dropout)
        self.axes, self.place, self.streams = axes, place, streams
        if axes == "none":
            return
        for name in ("position", "motion") if streams == "both" else (streams,):
            plain: Stream = getattr(self, name)
            channels = {
                "input": coordinates,
                "conv1": plain.conv1.out_channels,
                "conv2": plain.conv2.out_channels,
            }[place]
            attention = CSTA(
                channels,
                hidden,
                groups=groups,
                gate=gate,
                scale=scale,
                residual=residual,
                backend=backend,
            )
            if axes != "both":
                left_out = "frame_head" if axes == "joints" else "joint_head"
                setattr(attention, left_out, UniformHead(getattr(attention, left_out)))
            stream = AttentiveStream(coordinates, joints, dropout, attention, place)
            stream.load_state_dict(plain.state_dict(), strict=False)
            setattr(self, name, stream)

    def reset_parameters(self) -> None:
        """Start anew: HCN's layers as published, the attention as in a fresh layer.

        After the same seed the weights are those of a fresh network.
        """
        super().reset_parameters()
        for stream in (self.position, self.motion):
            if isinstance(stream, AttentiveStream):
                stream.attention.reset_parameters()
                # The constructor draws as many numbers before the next stream's attention.
                Stream(self.coordinates, self.joints, 0.0)

    @overload
    def forward(
        self,
        x: Tensor,
        *,
        persons: Tensor | None = None,
        lengths: Tensor | None = None,
        return_attention: Literal[False] = False,
    ) -> Tensor: ...
    @overload
    def forward(
        self,
        x: Tensor,
        *,
        persons: Tensor | None = None,
        lengths: Tensor | None = None,
        return_attention: Literal[True],
    ) -> tuple[Tensor, dict[str, Attention]]: ...
    def forward(
        self,
        x: Tensor,
        *,
        persons: Tensor | None = None,
        lengths: Tensor | None = None,
        return_attention: bool = False,
    ) -> Tensor | tuple[Tensor, dict[str, Attention]]:
        """Scores (N, K) of clips (N, C, T, V, M).

        Args:
            x, persons, lengths: as of ``HCN.forward``. Frames from ``lengths[n]`` on get no
                attention and no part in its means.
            return_attention: also return the attention of every stream that has one, by name:
                frames (N, M, G, T) and joints (N, M, G, V), zero for a person not looked at.

        Raises:
            TypeError, ValueError: x is not of the shape that the network was made for, or persons
                or lengths are not one number for each sample.
        """
        rows, present, row_lengths = self.rows(x, persons, lengths)
        features, found = [], {}
        for name, values in (
            ("position", rows),
            ("motion", differences(rows, row_lengths)),
        ):
            stream = getattr(self, name)
            if isinstance(stream, AttentiveStream):
                seen, attention = stream.attend(values, row_lengths)
                found[name] = Attention(*(_by_person(each, present) for each in attention))
            else:
                seen = stream(values)
            features.append(seen)
        scores = self.classify(torch.cat(features, 1), present)
        return (scores, found) if return_attention else scores

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, axes={self.axes!r}, place={self.place!r}"


def _by_person(attention: Tensor, present: Tensor) -> Tensor:
    """(R, G, L) of the persons present as (N, M, G, L)."""
    everyone = attention.new_zeros((*present.shape, *attention.shape[1:]))
    everyone[present] = attention
    return everyone
