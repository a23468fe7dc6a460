"""What the stub writes down of the CPU (`Op.STATE`): registers that tell what is mapped, and the clock."""

from __future__ import annotations

import numpy as np

from kgdbpatch.component.layout import STATE_ROOM

__all__ = ["STATE"]

_NAMES = ("sdr1", "pvr", "hid0", "srr0", "srr1", "dec", "tbu", "tbl")

STATE = np.dtype(
    [
        *((name, ">u4") for name in _NAMES),
        ("ibat", ">u4", (4, 2)),
        ("dbat", ">u4", (4, 2)),
        ("sr", ">u4", 16),
    ]
)

assert STATE.itemsize <= STATE_ROOM
