"""What tests/operators/test_sharding.py runs in each of two processes: a layer over DTensors.

Every check compares with the same call of the whole batch in one process.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import torch
import torch.distributed as dist
from torch import Tensor, nn

from csta_fast import CSTA, functional


def _layer(backend: str | None, *, own: bool = False) -> CSTA:
    torch.manual_seed(3)
    head = nn.Conv1d(8, 2, 1) if own else None
    layer = CSTA(8, groups=2, joint_head=head, backend=backend)
    for parameter in layer.parameters():
        nn.init.normal_(parameter)
    return layer


def _masks(samples: int) -> dict[str, Tensor]:
    return {
        "lengths": torch.arange(samples) + 2,
        "frame_mask": torch.rand(samples, 6) < 0.8,
        "joint_mask": torch.rand(5) < 0.8,
    }


def _whole(layer: CSTA, x: Tensor, masks: dict[str, Tensor]) -> list[Tensor]:
    x = x.detach().requires_grad_()
    y, attention = layer(x, return_attention=True, **masks)
    loss = y.square().sum() + attention.frames.square().sum()
    return [y, *attention, *torch.autograd.grad(loss, [x, *layer.parameters()])]


def _distributed(layer: CSTA, x: Tensor, masks: dict[str, Tensor], place: str) -> list[Tensor]:
    from torch.distributed.tensor import Replicate, Shard, distribute_module, distribute_tensor

    mesh = dist.device_mesh.init_device_mesh("cpu", (2,))
    distribute_module(layer, mesh)
    by_sample = {"sharded": Shard(0), "replicated": Replicate(), "elsewhere": Shard(1)}[place]
    x = distribute_tensor(x.detach(), mesh, [by_sample]).requires_grad_()
    shared = {"joint_mask"} if masks and masks["joint_mask"].dim() == 1 else set()
    if place == "elsewhere":
        shared |= masks.keys()
    masks = {
        name: distribute_tensor(mask, mesh, [Replicate() if name in shared else by_sample])
        for name, mask in masks.items()
    }
    y, attention = layer(x, return_attention=True, **masks)
    if place == "sharded":
        assert all(each.placements == (Shard(0),) for each in (y, *attention))
    loss = y.square().sum() + attention.frames.square().sum()
    found = [y, *attention, *torch.autograd.grad(loss, [x, *layer.parameters()])]
    return [each.full_tensor() for each in found]


def check_placements() -> None:
    """Forward and backward, fused and with a head of one's own, for every placement."""
    for place in ("sharded", "replicated", "elsewhere"):
        for own in (False, True):
            for masked in (False, True):
                if own and place == "elsewhere":
                    continue
                # One process has more of them; PyTorch's matrix products want equal numbers.
                samples = 3 if masked and not own else 4
                torch.manual_seed(5)
                x, masks = torch.randn(samples, 8, 6, 5), _masks(samples) if masked else {}
                wanted = _whole(_layer(None, own=own), x, masks)
                found = _distributed(_layer(None, own=own), x, masks, place)
                for ours, theirs in zip(found, wanted, strict=True):
                    torch.testing.assert_close(ours, theirs)


def check_fully_sharded() -> None:
    """FSDP2: every process has half of the samples and half of every parameter."""
    from torch.distributed.fsdp import fully_shard

    torch.manual_seed(5)
    x, rank = torch.randn(4, 8, 6, 5), dist.get_rank()
    layer, plain = _layer(None), _layer(None)
    fully_shard(layer)
    half = x[2 * rank : 2 * rank + 2].clone().requires_grad_()
    y = layer(half)
    y.square().sum().backward()
    wanted = _whole_gradients(plain, x)
    torch.testing.assert_close(y, plain(x)[2 * rank : 2 * rank + 2])
    for parameter, expected in zip(layer.parameters(), wanted, strict=True):
        torch.testing.assert_close(parameter.grad.full_tensor(), expected / 2)  # the mean


def _whole_gradients(layer: CSTA, x: Tensor) -> tuple[Tensor, ...]:
    return torch.autograd.grad(layer(x).square().sum(), list(layer.parameters()))


def check_memory_layouts() -> None:
    """The gradient of ``pool`` is told by a number which layout it has."""
    from torch.distributed.tensor import Shard, distribute_tensor

    mesh = dist.device_mesh.init_device_mesh("cpu", (2,))
    for layout in (torch.channels_last, torch.contiguous_format):
        x = torch.randn(4, 8, 6, 5).to(memory_format=layout)
        x = distribute_tensor(x, mesh, [Shard(0)]).requires_grad_()
        frame_means, _ = functional.pool(x)
        (gradient,) = torch.autograd.grad(frame_means.square().sum(), x)
        assert gradient.stride() == gradient.to_local().stride() == x.stride()


CHECKS: dict[str, Callable[[], None]] = {
    "placements": check_placements,
    "memory_layouts": check_memory_layouts,
    "fully_sharded": check_fully_sharded,
}


def run(rank: int, folder: str, check: str) -> None:
    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2
    )
    try:
        CHECKS[check]()
    finally:
        dist.destroy_process_group()
