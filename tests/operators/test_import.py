"""Importing the package again, as notebook runners do after removing it from sys.modules."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
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


def _imported(tree: ast.AST, modules: set[str]) -> Iterator[str]:
    """Modules of the package that a piece of source imports, at once or later; not for types."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.ImportFrom) and node.module is not None:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            yield from names & modules or {node.module} & modules
        yield from _imported(node, modules)


def test_no_two_modules_import_each_other() -> None:
    package = Path(csta_fast.__file__).parent
    files = {
        ".".join(path.relative_to(package.parent).with_suffix("").parts).removesuffix(
            ".__init__"
        ): path
        for path in package.rglob("*.py")
    }
    assert {"csta_fast", "csta_fast.functional", "csta_fast.operators.autograd"} <= files.keys()
    graph = {
        name: set(_imported(ast.parse(path.read_text()), files.keys() - {name}))
        for name, path in files.items()
    }
    assert "csta_fast.backends" in graph["csta_fast.functional"]
    TopologicalSorter(graph).prepare()  # a circle would be named
