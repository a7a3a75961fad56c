"""Skeleton recordings: readers, official splits, transforms, batches and a generator."""

from csta_fast.data.layouts import LAYOUTS, Layout
from csta_fast.data.recordings import Collection, Protocol, Recording, Split

__all__ = ["LAYOUTS", "Collection", "Layout", "Protocol", "Recording", "Split"]
