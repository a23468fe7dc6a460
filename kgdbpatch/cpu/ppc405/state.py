"""What the stub writes down of the CPU (`Op.STATE`): registers, the clock, and the entries of the TLB."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from kgdbpatch.component.layout import STATE_ROOM

__all__ = ["ENTRIES", "STATE", "Page", "pages"]

ENTRIES = 64
_NAMES = ("pvr", "srr0", "srr1", "srr2", "srr3", "pid", "zpr", "dec", "evpr", "tbu", "tbl")

STATE = np.dtype([*((name, ">u4") for name in _NAMES), ("tlb", ">u4", (ENTRIES, 3))])  # TLBHI, TLBLO, TID

_VALID, _NUMBER = 0x40, 0xFFFF_FC00  # of TLBHI; of both: page's number

assert STATE.itemsize <= STATE_ROOM


class Page(NamedTuple):
    """A page that the TLB maps now."""

    virtual: int
    physical: int
    size: int


def pages(state: np.void) -> Iterator[Page]:
    """Yield what the TLB maps for the kernel: entries of every process (PPC405 manual, "TLB fields")."""
    for high, low, process in state["tlb"].astype(np.int64).tolist():
        if high & _VALID and not process:
            size = 1024 << 2 * (high >> 7 & 7)
            yield Page(high & _NUMBER & -size, low & _NUMBER & -size, size)
