"""Importing the package again, as notebook runners do after removing it from sys.modules."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

import csta_fast

ROOT = Path(csta_fast.__file__).parents[1]

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

_CHECKOUT = """
import sys
sys.path.insert(0, {root!r})
import csta_fast
from importlib.util import find_spec
from csta_fast.kernels import plans
import csta_fast.kernels.plans as again
assert again is plans is csta_fast.kernels.plans
assert plans.__file__ == {root!r} + "/kernels/plans.py", plans.__file__
leaks = [name for name in {names!r} if find_spec("csta_fast." + name)]
assert not leaks, leaks
"""


@pytest.mark.parametrize("keep", [True, False])
def test_the_package_is_imported_again(keep: bool) -> None:
    """Whether or not something of the first import is still in use."""
    subprocess.run([sys.executable, "-c", _AGAIN.format(keep=keep)], check=True, timeout=300)


@pytest.mark.parametrize("options", [(), ("-I", "-S")], ids=["installed", "plain checkout"])
def test_a_checkout_gives_the_package_its_kernels_and_nothing_else(
    options: tuple[str, ...],
) -> None:
    """Importing setup.py, say, would run it."""
    if not (ROOT / "setup.py").exists():
        pytest.skip("the package does not run from a checkout")
    ours = {path.stem for path in (ROOT / "csta_fast").iterdir()} | {"kernels"}
    names = sorted({path.stem for path in ROOT.iterdir() if path.stem.isidentifier()} - ours)
    assert {"setup", "tests", "bench", "csrc"} <= set(names)
    code = _CHECKOUT.format(root=str(ROOT), names=names)
    if options:  # without site-packages, and so without this package's own installation
        packages = str(Path(torch.__file__).parents[1])
        code = f"import sys; sys.path.append({packages!r})\n" + code
    subprocess.run([sys.executable, *options, "-c", code], check=True, timeout=300)
