"""DTensor: the layer over samples that are sharded to two processes, and FSDP2."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import sharded
import torch

pytestmark = pytest.mark.skipif(
    not torch.distributed.is_available() or not torch.distributed.is_gloo_available(),
    reason="this PyTorch has no gloo",
)


@pytest.mark.usefixtures("native")
@pytest.mark.parametrize("check", sharded.CHECKS)
def test_two_processes_compute_what_one_does(check: str, tmp_path: Path) -> None:
    torch.multiprocessing.spawn(sharded.run, (str(tmp_path), check), nprocs=2)


def test_importing_the_package_imports_no_dtensor() -> None:
    code = "import sys, csta_fast; sys.exit('torch.distributed.tensor' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
