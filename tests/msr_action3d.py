"""MSR-Action3D skeletons, read from the archive as published."""

from __future__ import annotations

import io
import re
import tarfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

_NAME = re.compile(r"a(\d+)_s(\d+)_e(\d+)_skeleton3D\.txt$")
_JOINTS = 20
_HIP_CENTRE = 6
_LONGEST = 76


class Recordings(NamedTuple):
    """Recordings of one group of people."""

    features: Tensor  # (N, 3, T, V) positions in units of body size, zero beyond lengths
    lengths: Tensor  # (N,)
    actions: Tensor  # (N,) 0 ... 19


def _positions(text: bytes) -> np.ndarray:
    """(3, T, V) from lines "x y z confidence", 20 a frame, without frames that hold nothing."""
    rows = np.loadtxt(io.BytesIO(text), dtype=np.float32)[:, :3]
    frames = rows.reshape(-1, _JOINTS, 3)
    frames = frames[np.abs(frames).sum((1, 2)) > 0]
    frames = frames - frames[:1, _HIP_CENTRE : _HIP_CENTRE + 1]
    return (frames / frames.std()).transpose(2, 0, 1)


def read(archive: Path) -> tuple[Recordings, Recordings]:
    """Recordings of the odd subjects, to train on, and of the even ones, to test on."""
    found: tuple[list, list] = ([], [])
    with tarfile.open(archive) as files:
        texts = {Path(member.name).name: files.extractfile(member).read()
                 for member in files if member.isfile()}  # fmt: skip
    used = next(text for name, text in texts.items() if name.startswith("files_used"))
    for name in sorted(used.decode().split()):
        match = _NAME.search(f"{name}_skeleton3D.txt" if "skeleton" not in name else name)
        if match:
            action, subject, _ = map(int, match.groups())
            text = texts[f"{match.group(0)}"]
            found[1 - subject % 2].append((_positions(text), action - 1))
    return _batch(found[0]), _batch(found[1])


def _batch(recordings: list[tuple[np.ndarray, int]]) -> Recordings:
    features = torch.zeros(len(recordings), 3, _LONGEST, _JOINTS)
    lengths = torch.zeros(len(recordings), dtype=torch.int64)
    for row, (positions, _) in enumerate(recordings):
        lengths[row] = positions.shape[1]
        features[row, :, : lengths[row]] = torch.from_numpy(positions)
    return Recordings(features, lengths, torch.tensor([action for _, action in recordings]))
