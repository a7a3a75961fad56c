"""The contract on calls that nobody thought of."""

from __future__ import annotations

import torch
from backends import BACKENDS, require
from cases import Case
from contract import check
from hypothesis import given
from hypothesis import strategies as st
from inputs import LAYOUTS

_DIVISORS = {channels: [g for g in range(1, channels + 1) if channels % g == 0]
             for channels in range(1, 41)}  # fmt: skip
_MASKS = ("none", "lengths", "holes", "joints", "shared_joints", "all", "all_shared",
          "nothing_real", "full")  # fmt: skip
# Not "constant": channels with equal gradients round alike, and their errors add up.
_LAYOUTS = sorted(LAYOUTS.keys() - {"constant"})


@st.composite
def calls(draw: st.DrawFn) -> Case:
    channels = draw(st.integers(1, 40))
    shape = (
        draw(st.integers(0, 4)), channels, draw(st.integers(0, 40)), draw(st.integers(0, 40))
    )  # fmt: skip
    return Case(
        name=f"drawn_{draw(st.integers(0, 10**6))}",
        shape=shape,
        op=draw(st.sampled_from(["csta", "couple", "pool"])),
        groups=draw(st.sampled_from(_DIVISORS[channels])),
        hidden=draw(st.integers(1, 33)),
        gate=draw(st.sampled_from(["softmax", "sigmoid"])),
        scale=draw(st.sampled_from(["mean", "sum", 0.37, -2.0])),
        residual=draw(st.booleans()),
        masks=draw(st.sampled_from(_MASKS)),
        layout=draw(st.sampled_from(_LAYOUTS)),
        upstream=draw(st.sampled_from(_LAYOUTS)),
        narrow_weights=draw(st.booleans()),
        strided_weights=draw(st.booleans()),
    )


@given(case=calls(), dtype=st.sampled_from(BACKENDS[0].dtypes), data=st.data())
def test_drawn_calls(case: Case, dtype: torch.dtype, data: st.DataObject) -> None:
    backend = data.draw(st.sampled_from([one for one in BACKENDS if dtype in one.dtypes]))
    require(backend.name)
    check(case, dtype, backend)
