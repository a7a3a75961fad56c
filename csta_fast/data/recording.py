"""One recording of skeletons."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Recording:
    """One action of one or more people.

    Attributes:
        name: unique in its collection.
        positions: float32 (persons, frames, joints, coordinates), all finite; contiguous where
            they were read. A joint or person that was not tracked lies at exactly 0. In metres
            where the sensor measures in metres.
        label: the class, counted from 0.
        subject, camera, setup, view: who performed it and how it was recorded, as numbered by the
            data set; None where it does not say.
    """

    name: str
    positions: NDArray[np.float32]
    label: int
    subject: int | None = None
    camera: int | None = None
    setup: int | None = None
    view: int | None = None
