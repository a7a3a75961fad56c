"""Graphs of other makers than torch.compile: torch.jit.trace, and what goes to ONNX."""

from __future__ import annotations

import io

import pytest
import torch
from torch import nn

from csta_fast import CSTA
from csta_fast.backends import cpu as cpu_backend


def _layer() -> CSTA:
    layer = CSTA(8, groups=2)
    for parameter in layer.parameters():
        nn.init.normal_(parameter)
    return layer.eval()


def _operators(traced: torch.jit.ScriptModule) -> set[str]:
    return {node.kind() for node in traced.inlined_graph.nodes()}


@pytest.mark.skipif(cpu_backend.unavailable is not None, reason="there are no native kernels")
def test_a_trace_holds_the_operation_and_serves_other_shapes() -> None:
    layer, x = _layer(), torch.randn(2, 8, 6, 5)
    traced = torch.jit.trace(layer, (x,))
    assert "csta_fast::csta" in _operators(traced)
    for shape in ((2, 8, 6, 5), (3, 8, 9, 5)):
        given = torch.randn(*shape)
        assert torch.equal(traced(given), layer(given))


def test_for_onnx_the_layer_is_plain_pytorch(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, x = _layer(), torch.randn(2, 8, 6, 5)
    monkeypatch.setattr(torch.onnx, "is_in_onnx_export", lambda: True)

    traced = torch.jit.trace(layer, (x,))
    program = torch.export.export(layer, (x,))
    torch.testing.assert_close(traced(x), layer(x))
    torch.testing.assert_close(program.module()(x), layer(x))
    assert not any("csta" in name for name in _operators(traced))
    assert not any("csta" in str(node.target) for node in program.graph.nodes)


def test_the_older_onnx_exporter_takes_the_layer_in_a_module() -> None:
    """It passes every argument by position, those too that are left out."""
    pytest.importorskip("onnx")
    file = io.BytesIO()
    torch.onnx.export(nn.Sequential(_layer()), (torch.randn(2, 8, 6, 5),), file, dynamo=False)
    assert file.getvalue()
