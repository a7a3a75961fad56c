"""Pictures of what the attention looks at; needs matplotlib, and nothing else of the package does.

Every function returns a `matplotlib.figure.Figure` that belongs to no window and no global state:
`skeleton(...).savefig("skeleton.png")`, or show it by returning it from a notebook's cell.
"""

try:
    import matplotlib as _matplotlib  # noqa: F401
except ImportError as error:
    raise ImportError("csta_fast.plots needs matplotlib: pip install 'csta_fast[plot]'") from error

from csta_fast.plots.classes import class_overview, confusion
from csta_fast.plots.clips import clip
from csta_fast.plots.maps import attention_map, overview
from csta_fast.plots.skeletons import skeleton
from csta_fast.plots.timelines import timeline

__all__ = [
    "attention_map",
    "class_overview",
    "clip",
    "confusion",
    "overview",
    "skeleton",
    "timeline",
]
