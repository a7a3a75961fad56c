"""What only a GPU can show of a backend, a minute of it: the first thing to run where there is one.

Loading beside PyTorch's own runtime, the current stream, a second device, clusters, CUDA graphs,
threads, and no wait for the device. The contract comes after it.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch
from backends import BACKENDS, Backend, require
from cases import CLUSTERS, Case
from contract import Tensors, check, run
from inputs import Inputs, make
from torch import Tensor

from csta_fast import CSTA

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch sees no GPU")

_ON_GPU = [backend for backend in BACKENDS if backend.name in ("cuda", "triton")]

_STEP = Case("step", CLUSTERS["8"], hidden=16, masks="lengths")
_CYCLES = 100_000_000  # some 50 ms


@pytest.fixture(params=_ON_GPU, ids=str)
def there(request: pytest.FixtureRequest) -> Backend:
    """A backend that serves this GPU."""
    require(request.param.name)
    return request.param


def _bits(results: Tensors) -> Tensors:
    sizes = {8: torch.int64, 4: torch.int32, 2: torch.int16}
    return {
        name: each.detach().contiguous().view(sizes[each.element_size()]).clone()
        for name, each in results.items()
    }


def _everything(inputs: Inputs, backend: Backend) -> Tensors:
    results, gradients = run(inputs, backend.name)
    return _bits({**results, **{f"gradient of {name}": each for name, each in gradients.items()}})


def _assert_same(ours: Tensors, wanted: Tensors) -> None:
    wrong = [name for name, each in ours.items() if not each.equal(wanted[name])]
    assert wrong == []


def _with_numbers(inputs: Inputs, change: Callable[[Tensor], Tensor]) -> Inputs:
    """The same call with every number changed, in memory of its own."""
    leaves = {name: change(each.detach()) for name, each in inputs.tensors.items()}
    upstream = tuple(change(each) for each in inputs.upstream)
    return replace(inputs, tensors=leaves, upstream=upstream).requires_grad()


def _take_numbers(inputs: Inputs, others: Inputs) -> None:
    with torch.no_grad():
        for name, tensor in inputs.tensors.items():
            tensor.copy_(others.tensors[name])
        for mine, other in zip(inputs.upstream, others.upstream, strict=True):
            mine.copy_(other)


def test_loads_and_launches_beside_pytorchs_runtime(there: Backend) -> None:
    before = torch.ones(1000, device="cuda").cumsum(0)
    check(Case("odd", (3, 5, 7, 17)), torch.float32, there)
    torch.cuda.synchronize()
    assert before.equal(torch.ones(1000, device="cuda").cumsum(0))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("blocks", CLUSTERS)
def test_clusters(blocks: str, dtype: torch.dtype, there: Backend) -> None:
    for layout in ("contiguous", "channels_last"):
        case = Case(f"blocks_{blocks}", CLUSTERS[blocks], hidden=16, layout=layout, upstream=layout)
        check(case, dtype, there)
    torch.cuda.synchronize()


def test_works_on_the_current_stream(there: Backend) -> None:
    """What is enqueued there before has not happened yet when the call returns."""
    inputs = make(_STEP, torch.float32, "cuda")
    others = _with_numbers(inputs, torch.neg)
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        wanted = _everything(others, there)
        stream.synchronize()
        torch.cuda._sleep(_CYCLES)
        _take_numbers(inputs, others)
        found = _everything(inputs, there)
        assert not stream.query(), "the call has waited for the device"
    stream.synchronize()
    _assert_same(found, wanted)


def test_forward_and_backward_in_one_graph(there: Backend) -> None:
    """Replayed with other numbers, it gives the bits of an ordinary call with those."""
    for case in (
        _STEP,
        replace(_STEP, layout="channels_last", upstream="channels_last"),
        replace(_STEP, op="couple", groups=2),
        replace(_STEP, op="pool"),
    ):
        inputs = make(case, torch.float32, "cuda")
        others, again = _with_numbers(inputs, torch.neg), _with_numbers(inputs, torch.clone)
        first, second = _everything(inputs, there), _everything(others, there)
        graph, stream = torch.cuda.CUDAGraph(), torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            run(inputs.requires_grad(), there.name)
        torch.cuda.current_stream().wait_stream(stream)
        captured = inputs.requires_grad()
        with torch.cuda.graph(graph, stream=stream):
            results, gradients = run(captured, there.name)
        made = {**results, **{f"gradient of {name}": each for name, each in gradients.items()}}
        for numbers, wanted in ((others, second), (again, first)):
            _take_numbers(captured, numbers)
            graph.replay()
            torch.cuda.synchronize()
            _assert_same(_bits(made), wanted)


def test_waits_for_nothing(there: Backend) -> None:
    inputs = make(_STEP, torch.float32, "cuda")
    _everything(inputs, there)
    torch.cuda.set_sync_debug_mode("error")
    try:
        run(inputs, there.name)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_threads_with_kernels_of_different_sizes(there: Backend) -> None:
    """Each launch has the shared memory that it asks for, whatever others ask for meanwhile."""
    cases = [Case(f"thread_{blocks}", CLUSTERS[blocks], hidden=16) for blocks in "18"]
    calls = [make(case, torch.float32, "cuda") for case in cases]
    wanted = [_everything(each, there) for each in calls]
    torch.cuda.synchronize()

    def many(which: int) -> bool:
        with torch.cuda.stream(torch.cuda.Stream()):
            for _ in range(200):
                _assert_same(_everything(calls[which].requires_grad(), there), wanted[which])
        return True

    with ThreadPoolExecutor(2) as pool:
        assert all(pool.map(many, range(2)))


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="there is one GPU")
def test_second_device(there: Backend) -> None:
    """Work is done where x is, and the current device is what it was."""
    wanted = _everything(make(_STEP, torch.float32, "cuda:0"), there)
    with torch.cuda.device(0):
        found = _everything(make(_STEP, torch.float32, "cuda:1"), there)
        assert torch.cuda.current_device() == 0
    assert {each.device.index for each in found.values()} == {1}
    _assert_same({name: each.to("cuda:0") for name, each in found.items()}, wanted)


def test_compiled_without_a_graph_break(there: Backend) -> None:
    layer = CSTA(16, hidden=8, backend=there.name).cuda()
    torch.nn.init.normal_(layer.frame_head.w2)
    compiled = torch.compile(layer, fullgraph=True, dynamic=True, backend="aot_eager")
    for samples, frames in ((3, 12), (4, 9)):
        x = torch.randn(samples, 16, frames, 25, device="cuda")
        lengths = torch.tensor([frames, 5, 0, 1][:samples], device="cuda")
        torch.testing.assert_close(compiled(x, lengths=lengths), layer(x, lengths=lengths))


@pytest.mark.parametrize("operation", ["csta", "couple", "pool"])
def test_results_are_used_where_they_are_made(operation: str, there: Backend) -> None:
    """Memory that a call has worked in is handed on at once, to the same stream."""
    inputs = make(replace(_STEP, op=operation), torch.float32, "cuda")
    wanted = _everything(inputs, there)

    def used(fill: Callable[[Tensor], Tensor]) -> Tensors:
        found = _everything(inputs, there)
        for _ in range(8):
            fill(torch.empty(2**18, device="cuda"))
        return found

    for _ in range(20):
        _assert_same(used(lambda memory: memory.fill_(torch.nan)), wanted)
