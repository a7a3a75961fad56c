"""Ways to split a data set: small values that can be called, compared and sent to a worker."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from csta_fast.data.recordings import Recording


@dataclass(frozen=True)
class Divided:
    """Train on some values of an attribute, test on the others.

    Attributes:
        attribute: of a recording; one that does not know it is left out.
        train: values to train on.
        test: values to test on; None for all others. What is in neither is left out.
        labels: classes that take part; None for all. Labels stay as they are.
    """

    attribute: Literal["subject", "camera", "setup", "view"]
    train: frozenset[int]
    test: frozenset[int] | None = None
    labels: frozenset[int] | None = None

    def __call__(self, recording: Recording) -> bool | None:
        value: int | None = getattr(recording, self.attribute)
        if value is None or not (self.labels is None or recording.label in self.labels):
            return None
        if value in self.train:
            return True
        return False if self.test is None or value in self.test else None


@dataclass(frozen=True)
class Prefixed:
    """Test on the recordings whose names start alike, train on all others."""

    test: str

    def __call__(self, recording: Recording) -> bool | None:
        return not recording.name.startswith(self.test)


@dataclass(frozen=True)
class Listed:
    """Train and test on recordings by name; what is on neither list is left out."""

    train: frozenset[str]
    test: frozenset[str]

    def __call__(self, recording: Recording) -> bool | None:
        if recording.name in self.train:
            return True
        return False if recording.name in self.test else None
