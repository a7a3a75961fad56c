"""One module for each kind of data set, and the registry of them."""

from __future__ import annotations

from typing import Final

from csta_fast.data.formats import (
    ctr_gcn,
    msr_action3d,
    ntu,
    nw_ucla,
    prepared,
    pyskl,
    st_gcn,
    uestc,
    utkinect,
)
from csta_fast.data.gathering import Format

FORMATS: Final[dict[str, Format]] = {
    form.kind: form
    for form in (
        *ntu.FORMATS,
        pyskl.FORMAT,
        ctr_gcn.FORMAT,
        st_gcn.FORMAT,
        uestc.FORMAT,
        nw_ucla.FORMAT,
        msr_action3d.FORMAT,
        utkinect.FORMAT,
        prepared.FORMAT,
    )
}
