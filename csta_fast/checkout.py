"""The Triton kernels of a checkout, where they lie beside the package and not in it."""

from __future__ import annotations

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path


def load_kernels() -> None:
    """Make ``csta_fast.kernels`` of the folder beside the package, if it is there.

    Of this folder only: a longer ``__path__`` of the package would let setup.py be imported, too.
    """
    source = Path(__file__).parents[1] / "kernels" / "__init__.py"
    if not source.exists():
        return
    spec = spec_from_file_location("csta_fast.kernels", source)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    sys.modules["csta_fast"].kernels = module  # type: ignore[attr-defined]
