"""Skeleton recordings: readers, official splits, transforms, batches and a generator."""

from csta_fast.data.clips import Batch, ClipOptions, Clips, EpochSampler, collate
from csta_fast.data.formats import FORMATS
from csta_fast.data.generator import Performance, Truth, generate
from csta_fast.data.layouts import LAYOUTS, Layout
from csta_fast.data.limits import Limits
from csta_fast.data.reading import read
from csta_fast.data.recordings import Collection, Protocol, Recording, Split

__all__ = [
    "FORMATS",
    "LAYOUTS",
    "Batch",
    "ClipOptions",
    "Clips",
    "Collection",
    "EpochSampler",
    "Layout",
    "Limits",
    "Performance",
    "Protocol",
    "Recording",
    "Split",
    "Truth",
    "collate",
    "generate",
    "read",
]
