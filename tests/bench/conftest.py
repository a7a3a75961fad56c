"""The harness of the benches, tested: its package lies in the checkout's root."""

from __future__ import annotations

import sys
from pathlib import Path

# At the end: what is tested of csta_fast is what is installed.
sys.path.append(str(Path(__file__).resolve().parents[2]))
