"""Training and evaluation of networks on skeleton recordings, on Lightning (extra ``train``)."""

from csta_fast.training.checkpoint import Facts, Trained, load
from csta_fast.training.options import (
    DataOptions,
    ModelOptions,
    Options,
    TrainingOptions,
)
from csta_fast.training.resume import BEST, LAST
from csta_fast.training.run import Outcome, evaluate, train

__all__ = [
    "BEST",
    "LAST",
    "DataOptions",
    "Facts",
    "ModelOptions",
    "Options",
    "Outcome",
    "Trained",
    "TrainingOptions",
    "evaluate",
    "load",
    "train",
]
