"""What the stub writes down of the CPU (`Op.STATE`): registers, the clock, and the entries of the TLB."""

from __future__ import annotations

import numpy as np

from kgdbpatch.component.layout import STATE_ROOM

__all__ = ["ENTRIES", "ENTRIES_440", "STATE", "STATE_440"]

ENTRIES = 16  # of TLB1 (E500CORERM 2.12.4)
ENTRIES_440 = 64
_NAMES = ("pvr", "hid0", "srr0", "srr1", "csrr0", "csrr1", "pid", "tlb1cfg", "dec", "ivpr", "ivor6")
_NAMES_440 = (
    "pvr",
    "srr0",
    "srr1",
    "csrr0",
    "csrr1",
    "pid",
    "mmucr",
    "dec",
    "ivpr",
    "ivor6",
    "ivor13",
    "ivor14",
)

_CLOCK = ("tbu", "tbl", "pad")

STATE = np.dtype(
    [*((name, ">u4") for name in (*_NAMES, *_CLOCK)), ("tlb1", ">u4", (ENTRIES, 4))]
)  # MAS1, 2, 3, 7

# The last ones are not the stub's, but noted by whoever has made its place to run (window_440.py).
STATE_440 = np.dtype(
    [
        *((name, ">u4") for name in (*_NAMES_440, *_CLOCK)),
        ("tlb", ">u4", (ENTRIES_440, 4)),  # three words, MMUCR
        ("bounds", ">u4", (2, 2)),  # virtual address, word: how the kernel had it
        *((name, ">u4") for name in ("variable", "last", "pages", "lowered")),
    ]
)

assert STATE.itemsize <= STATE_ROOM
assert STATE_440.itemsize <= STATE_ROOM
