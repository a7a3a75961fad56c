"""Clips of recordings as a PyTorch data set, and batches of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from csta_fast.data import checks, transforms
from csta_fast.data.layouts import Layout
from csta_fast.data.recordings import Recording
from csta_fast.data.transforms import Normalisation

Fit = Literal["resize", "pad"]
_LEAST_FRAMES = 16  # a random crop is not made shorter, where the recording is not


@dataclass(frozen=True)
class ClipOptions:
    """How a recording becomes a clip.

    Attributes:
        frames: T of every clip; HCN was published with 32 and with 64.
        fit: "resize" interpolates a recording to T frames; "pad" keeps its speed, fills up with
            zeros and tells the network how many frames are real. A longer one is cut to T frames.
        normalise: what positions are relative to: the centre of the body in the "first" frame or
            in every "frame"; "aligned" turns the body to the front as well.
        unit_size: divide positions by the mean bone length of the first person, so that people of
            different size look alike; five bone lengths are 1 then, which is about a metre.
        crop: least and greatest share of a recording's frames that a training clip shows; it
            begins at random.
        test_crop: share of the frames, around the middle, that a test clip shows.
        rotation: a training clip is turned about the vertical by up to so many degrees.
        jitter: standard deviation of noise added to a training clip, in units of positions.
    """

    frames: int = 32
    fit: Fit = "resize"
    normalise: Normalisation = "first"
    unit_size: bool = False
    crop: tuple[float, float] = (0.9, 1.0)
    test_crop: float = 0.9
    rotation: float = 0.0
    jitter: float = 0.0

    def __post_init__(self) -> None:
        if self.frames < 1:
            raise ValueError(f"frames: wanted at least 1, got {self.frames}")
        if self.fit not in get_args(Fit):
            raise ValueError(f"fit: wanted one of {', '.join(get_args(Fit))}, got {self.fit!r}")
        least, greatest = self.crop
        if not 0 < least <= greatest <= 1:
            raise ValueError(f"crop: wanted 0 < least <= greatest <= 1, got {self.crop}")
        if not 0 < self.test_crop <= 1:
            raise ValueError(f"test_crop: wanted more than 0 and at most 1, got {self.test_crop}")
        for name in ("rotation", "jitter"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}: wanted at least 0, got {getattr(self, name)}")


class Batch(NamedTuple):
    """Clips side by side."""

    x: Tensor  # (N, D, T, V, M) float32
    labels: Tensor  # (N,) int64
    persons: Tensor  # (N,) int64: the others of the M are empty
    lengths: Tensor  # (N,) int64: the other of the T frames are padding
    rows: Tensor  # (N,) int64: which recordings of the data set


class Draw(NamedTuple):
    """Which clip to make: what a sampler yields in place of an index."""

    epoch: int
    row: int


class Clips(Dataset[Batch]):
    """One clip for every recording: normalised, cropped, fitted to T frames.

    A training clip is drawn anew in every epoch, by a generator of its own that depends on seed,
    epoch and row alone. So clips are the same for any number of workers and processes.

    Args:
        recordings: what to take clips of.
        layout: of their joints.
        options: how.
        persons: M of every clip; further persons of a recording are left out.
        training: crop, turn and shake at random; else take the middle as it is.
        seed: of the generators.

    Raises:
        ValueError: a recording cannot be used, as ``Collection`` says, or not in this way, or there
            are no persons.
    """

    def __init__(
        self,
        recordings: Sequence[Recording],
        layout: Layout,
        options: ClipOptions,
        *,
        persons: int,
        training: bool = False,
        seed: int = 0,
    ) -> None:
        if persons < 1:
            raise ValueError(f"persons: wanted at least 1, got {persons}")
        # Arrays can have changed since a collection was made of them.
        checks.check_recordings(recordings, layout)
        coordinates = recordings[0].positions.shape[3] if recordings else 3
        for name, turns in (
            ("normalise", options.normalise == "aligned"),
            ("rotation", bool(options.rotation)),
        ):
            if turns and coordinates != 3:
                value = getattr(options, name)
                raise ValueError(
                    f"{name}: wanted 3 coordinates of positions for {value!r}, got {coordinates}"
                )
        self.recordings, self.layout, self.options = recordings, layout, options
        self.persons, self.training, self.seed = persons, training, seed

    def __len__(self) -> int:
        return len(self.recordings)

    def shown(self, row: int) -> transforms.Positions:
        """The positions (at most M, at most T, V, D) of a test clip where they were recorded."""
        positions = self.recordings[row].positions[: self.persons]
        return self._fit(transforms.centre_crop(positions, self.options.test_crop), None)

    def moments(self, row: int) -> NDArray[np.int64]:
        """The frame of the recording that each frame of ``shown`` is, or is nearest to."""
        length, frames = self.recordings[row].positions.shape[1], self.options.frames
        numbers = np.arange(length, dtype=np.float32).reshape(1, -1, 1, 1)
        middle = transforms.centre_crop(numbers, self.options.test_crop)
        if self.options.fit == "pad":
            middle = self._fit(middle, None)
        else:
            steps = (np.arange(frames) + 0.5) * (middle.shape[1] / frames)
            middle = middle[:, steps.astype(np.int64)]
        return middle[0, :, 0, 0].astype(np.int64)

    def __getitem__(self, draw: Draw | int) -> Batch:
        """The clip of a recording as a batch of one."""
        epoch, row = draw if isinstance(draw, tuple) else (0, draw)
        recording = self.recordings[row]
        positions = self._clip(recording.positions[: self.persons], epoch, row)
        people, length, joints, coordinates = positions.shape
        x = np.zeros((1, coordinates, self.options.frames, joints, self.persons), np.float32)
        x[0, :, :length, :, :people] = positions.transpose(3, 1, 2, 0)
        # From NumPy, as x: whatever PyTorch's default device is.
        numbers = (np.array([each], np.int64) for each in (recording.label, people, length, row))
        return Batch(torch.from_numpy(x), *map(torch.from_numpy, numbers))

    def _clip(self, positions: transforms.Positions, epoch: int, row: int) -> transforms.Positions:
        """Positions (M, at most T, V, D)."""
        options = self.options
        if options.unit_size:
            size = 5 * transforms.body_size(positions, self.layout)
            positions = (positions / np.float32(size)).astype(np.float32)
        if self.training:
            random = np.random.default_rng((self.seed, epoch, row))
            positions = transforms.random_crop(positions, options.crop, _LEAST_FRAMES, random)
            positions = self._fit(positions, random)
            positions = transforms.normalise(positions, self.layout, options.normalise)
            return self._disturb(positions, random)
        positions = self._fit(transforms.centre_crop(positions, options.test_crop), None)
        return transforms.normalise(positions, self.layout, options.normalise)

    def _fit(
        self, positions: transforms.Positions, random: np.random.Generator | None
    ) -> transforms.Positions:
        frames = self.options.frames
        if self.options.fit == "resize":
            return transforms.resize(positions, frames)
        surplus = positions.shape[1] - frames
        if surplus <= 0:
            return positions
        start = surplus // 2 if random is None else int(random.integers(surplus + 1))
        return transforms.crop(positions, start, frames)

    def _disturb(
        self, positions: transforms.Positions, random: np.random.Generator
    ) -> transforms.Positions:
        options = self.options
        if options.rotation:
            degrees = float(random.uniform(-options.rotation, options.rotation))
            positions = transforms.rotate(positions, self.layout, degrees)
        if options.jitter:
            noise = random.normal(0, options.jitter, positions.shape).astype(np.float32)
            seen = transforms.tracked(positions)[..., None]
            positions = np.where(seen, positions + noise, positions).astype(np.float32)
        return positions


def collate(clips: Sequence[Batch]) -> Batch:
    """Clips side by side in one batch."""
    return Batch(*(torch.cat(parts) for parts in zip(*clips, strict=True)))


class EpochSampler(Sampler[Draw]):
    """The rows of one process in one epoch.

    With ``shuffle`` the order depends on seed and epoch alone, and process r of W takes every W-th
    row from the r-th on, so that W processes with batches of B see together what one process sees
    with batches of W · B; rows are repeated at the end to make processes equally long. Without it
    rows come in order and none comes twice, so that figures over all processes are exact.
    """

    def __init__(
        self, length: int, *, shuffle: bool, seed: int = 0, rank: int = 0, processes: int = 1
    ) -> None:
        if not 0 <= rank < processes:
            raise ValueError(f"rank: wanted 0 to {processes - 1}, got {rank}")
        self.length, self.shuffle, self.seed = length, shuffle, seed
        self.rank, self.processes = rank, processes
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before every epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        surplus = 0 if self.shuffle else self.rank
        rounded = self.processes - 1 if self.shuffle else self.processes - 1 - surplus
        return (self.length + rounded) // self.processes

    def __iter__(self) -> Iterator[Draw]:
        if not self.shuffle:
            rows = range(self.rank, self.length, self.processes)
            return iter([Draw(self.epoch, row) for row in rows])
        order = np.random.default_rng((self.seed, self.epoch)).permutation(self.length)
        padded = np.resize(order, len(self) * self.processes)
        return iter([Draw(self.epoch, int(row)) for row in padded[self.rank :: self.processes]])
