"""One module for each kind of data set, and the registry of them."""

from __future__ import annotations

from typing import Final

from csta_fast.data.formats import msr_action3d, utkinect
from csta_fast.data.gathering import Format

FORMATS: Final[dict[str, Format]] = {
    module.FORMAT.kind: module.FORMAT for module in (msr_action3d, utkinect)
}
