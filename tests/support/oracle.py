"""The exact results and gradients of a call, and the rounding errors that are nobody's fault.

Written from the formulas of docs/definition.md in NumPy, without PyTorch and without automatic
differentiation, so that it judges the reference too. Evaluated in float64, and for float64
inputs in ``longdouble``.

In subscripts: n samples, g groups, k channels of a group, c channels, h hidden, t frames,
v joints, l frames or joints.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from inputs import Inputs, real_frames_and_joints
from torch import Tensor
from uncertain import Array, Uncertain, contract, exactly, relu, sigmoid, softmax

Head = tuple[Uncertain, Uncertain, Uncertain, Uncertain]


@dataclass(frozen=True)
class Axis:
    """Everything that belongs to the frames, or to the joints, of a call."""

    name: str
    real: Array  # (N, L)
    count: Array  # (N, 1, 1), at least 1
    head: Head | None
    means: Uncertain  # (N, C, L)
    hidden: Uncertain  # (N, H, L)
    attention: Uncertain  # (N, G, L)


def extended(tensor: Tensor) -> Array:
    """The tensor's numbers with room for more digits than its dtype holds."""
    array = tensor.detach().double().cpu().numpy()
    return array.astype(np.longdouble) if tensor.dtype is torch.float64 else array


class Oracle:
    """Exact answers to one call."""

    def __init__(self, inputs: Inputs) -> None:
        self.case = inputs.case
        self.real = inputs.real.numpy()
        given = {name: extended(tensor) for name, tensor in inputs.tensors.items()}
        self.number = given["x"].dtype.type
        self.given = {name: exactly(values) for name, values in given.items()}
        self.upstream = [exactly(extended(tensor)) for tensor in inputs.upstream]
        self.x = self.given["x"].where(self.real)
        frames, joints = real_frames_and_joints(inputs.case.shape, inputs.masks)
        counts = [
            np.maximum(1, real.sum(1)).astype(self.number)[:, None, None]
            for real in (frames.numpy(), joints.numpy())
        ]
        self.frame_means = self._divided(self.x.sum(3), counts[1])
        self.joint_means = self._divided(self.x.sum(2), counts[0])
        self.frames = self._axis("frame", frames.numpy(), counts[0], self.frame_means)
        self.joints = self._axis("joint", joints.numpy(), counts[1], self.joint_means)

    def results(self) -> dict[str, Uncertain]:
        if self.case.op == "pool":
            return {"frame_means": self.frame_means, "joint_means": self.joint_means}
        return {
            "y": self._weighted(self.given["x"]),
            "frame_attention": self.frames.attention,
            "joint_attention": self.joints.attention,
        }

    def gradients(self) -> dict[str, Uncertain]:
        if self.case.op == "pool":
            of_frames, of_joints = self.upstream
            return {"x": self._spread(of_frames, of_joints)}
        u = self.upstream[0].where(self.real)
        overlap = contract("ngktv,ngktv->ngtv", self._grouped(u), self._grouped(self.x))
        gradients = {"x": self._weighted(self.upstream[0])}
        of_means = {}
        for axis, other, subscripts, upstream in (
            (self.frames, self.joints, "ngtv,ngv->ngt", self.upstream[1]),
            (self.joints, self.frames, "ngtv,ngt->ngv", self.upstream[2]),
        ):
            weighted = contract(subscripts, overlap, other.attention)
            of_attention = weighted * exactly(self._kappa()) + upstream
            of_logits = self._gate_gradient(axis, of_attention)
            if axis.head is None:
                gradients[f"{axis.name}_logits"] = of_logits
            else:
                of_means[axis.name] = self._head_gradients(axis, of_logits, gradients)
        if of_means:
            gradients["x"] += self._spread(of_means["frame"], of_means["joint"])
        return gradients

    def _axis(self, name: str, real: Array, count: Array, means: Uncertain) -> Axis:
        head, hidden, visible = None, means, real[:, None, :]
        if self.case.op == "pool":
            return Axis(name, real, count, head, means, hidden, means)
        if self.case.op == "couple":
            logits = self.given[f"{name}_logits"]
        else:
            parts = (self.given[f"{name}_head.{part}"] for part in ("w1", "b1", "w2", "b2"))
            head = w1, b1, w2, b2 = tuple(parts)
            hidden = relu(contract("hc,ncl->nhl", w1, means) + b1.map(_as_column))
            logits = contract("gh,nhl->ngl", w2, hidden) + b2.map(_as_column)
        logits = logits.where(visible)
        if self.case.gate == "softmax":
            attention = softmax(logits, visible)
        else:
            attention = sigmoid(logits).where(visible)
        return Axis(name, real, count, head, means, hidden, attention)

    def _divided(self, total: Uncertain, count: Array) -> Uncertain:
        return total * exactly(1 / count)

    def _kappa(self) -> Array:
        """The scale, (N, 1, 1)."""
        if self.case.scale == "mean" and self.case.gate == "softmax":
            return self.frames.count * self.joints.count
        number = self.case.scale if isinstance(self.case.scale, float) else 1
        return np.full_like(self.frames.count, number)

    def _grouped(self, x: Uncertain) -> Uncertain:
        samples, channels, frames, joints = self.case.shape
        groups = self.case.groups
        shape = (samples, groups, channels // groups, frames, joints)
        return x.map(lambda values: values.reshape(shape))

    def _weighted(self, x: Uncertain) -> Uncertain:
        """x (ρ + κ A), and ρ x at positions that are not real."""
        frames = self.frames.attention.map(lambda a: a[:, :, None, :, None])
        joints = self.joints.attention.map(lambda a: a[:, :, None, None, :])
        gain = frames * joints * exactly(self._kappa()[..., None, None])
        if self.case.residual:
            gain += exactly(np.ones_like(gain.value))
        grouped = self._grouped(x.where(self.real)) * gain
        y = grouped.map(lambda values: values.reshape(self.case.shape)).where(self.real)
        if self.case.residual:
            y = Uncertain(np.where(self.real, y.value, x.value), y.variance)
        return y

    def _gate_gradient(self, axis: Axis, of_attention: Uncertain) -> Uncertain:
        a = axis.attention
        if self.case.gate == "softmax":
            of_logits = a * (of_attention + -((a * of_attention).sum(2, keepdims=True)))
        else:
            of_logits = a * (exactly(np.ones_like(a.value)) + -a) * of_attention
        return of_logits.where(axis.real[:, None, :])

    def _head_gradients(
        self, axis: Axis, of_logits: Uncertain, into: dict[str, Uncertain]
    ) -> Uncertain:
        assert axis.head is not None
        w1, _, w2, _ = axis.head
        of_hidden = contract("gh,ngl->nhl", w2, of_logits).where(axis.hidden.value > 0)
        parts = {
            "w1": contract("nhl,ncl->hc", of_hidden, axis.means),
            "b1": of_hidden.sum((0, 2)),
            "w2": contract("ngl,nhl->gh", of_logits, axis.hidden),
            "b2": of_logits.sum((0, 2)),
        }
        into.update({f"{axis.name}_head.{part}": value for part, value in parts.items()})
        return contract("hc,nhl->ncl", w1, of_hidden)

    def _spread(self, of_frames: Uncertain, of_joints: Uncertain) -> Uncertain:
        """The gradient of x through its means: each goes to the real positions it averages."""
        frames = self._divided(of_frames, self.joints.count).map(lambda p: p[:, :, :, None])
        joints = self._divided(of_joints, self.frames.count).map(lambda p: p[:, :, None, :])
        return (frames + joints).where(self.real)


def _as_column(bias: Array) -> Array:
    return bias[:, None]
