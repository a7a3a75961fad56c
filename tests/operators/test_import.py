"""Importing the package again, as notebook runners do after removing it from sys.modules."""

from __future__ import annotations

import subprocess
import sys

import pytest

_AGAIN = """
import gc, sys, torch, csta_fast
x = torch.randn(2, 8, 5, 6, requires_grad=True)
keep = {keep}
old = csta_fast.CSTA(8)
wanted = old(x)
wanted.sum().backward()
if not keep:
    del old, csta_fast
for name in [name for name in sys.modules if name.partition(".")[0] == "csta_fast"]:
    del sys.modules[name]
gc.collect()
import csta_fast
layer = csta_fast.CSTA(8)
for call in (layer, torch.compile(layer, backend="aot_eager", fullgraph=True)):
    x.grad = None
    y = call(x)
    y.sum().backward()
    assert torch.equal(y, wanted) and x.grad.isfinite().all()
    assert torch.func.vmap(layer)(x[None]).shape == (1, *x.shape)
if keep:
    assert torch.equal(old(x), wanted)
"""


@pytest.mark.parametrize("keep", [True, False])
def test_the_package_is_imported_again(keep: bool) -> None:
    """Whether or not something of the first import is still in use."""
    subprocess.run([sys.executable, "-c", _AGAIN.format(keep=keep)], check=True, timeout=300)
