"""What the stub writes down of the CPU (`Op.STATE`): registers, the clock, and all entries of TLB1."""

from __future__ import annotations

import numpy as np

from kgdbpatch.component.layout import STATE_ROOM

__all__ = ["ENTRIES", "STATE"]

ENTRIES = 16  # of TLB1 (E500CORERM 2.12.4)
_NAMES = ("pvr", "hid0", "srr0", "srr1", "csrr0", "csrr1", "pid", "tlb1cfg", "dec", "ivpr", "ivor6")

_CLOCK = ("tbu", "tbl", "pad")

STATE = np.dtype(
    [*((name, ">u4") for name in (*_NAMES, *_CLOCK)), ("tlb1", ">u4", (ENTRIES, 4))]
)  # MAS1, 2, 3, 7

assert STATE.itemsize <= STATE_ROOM
