"""Entries of TLB1: what their words say, and which of them map a range of addresses."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from kgdbpatch.component.layout import Op
from kgdbpatch.component.protocol import Command

__all__ = ["GIVEN_BACK", "LARGEST", "OTHER_SPACE", "PAGE", "Entry", "entries", "largest", "pieces"]

PAGE = 4096
LARGEST = 1 << 30  # bytes: the largest page that is asked for
OTHER_SPACE = 0x1000  # MAS1[TS]
GIVEN_BACK = 0x80  # added to the number of an entry (stub.S)
_VALID, _WIRED = 1 << 31, 1 << 30  # MAS1[V, IPROT]
_COHERENT = 0x4  # MAS2[M]
_SUPERVISOR = 0x15  # MAS3[SX, SW, SR]
_PAGES = -PAGE & 0xFFFF_FFFF


class Entry(NamedTuple):
    """One entry: the page's address, what memory it shows, its size in bytes, of which address space."""

    virtual: int
    physical: int
    size: int
    other_space: bool = False

    @classmethod
    def read(cls, words: np.ndarray) -> Entry | None:
        """Return the entry that MAS1, MAS2, MAS3 and MAS7 tell of; None for one that is not valid."""
        mas1, mas2, mas3, mas7 = (int(word) for word in words)
        if not mas1 & _VALID:
            return None
        size = 1024 << 2 * (mas1 >> 8 & 0xF)
        start, physical = (word & _PAGES & -size for word in (mas2, mas3))
        return cls(start, mas7 << 32 | physical, size, bool(mas1 & OTHER_SPACE))

    @property
    def registers(self) -> tuple[int, int, int]:
        """MAS1, MAS2 and MAS3: a wired page of the supervisor's, of every process."""
        mas1 = _VALID | _WIRED | (OTHER_SPACE if self.other_space else 0)
        mas1 |= (self.size.bit_length() - 11) // 2 << 8  # 4^TSIZE KiB
        return mas1, self.virtual | _COHERENT, self.physical | _SUPERVISOR

    def command(self, number: int) -> Command:
        """Return the command that makes it entry ``number`` of TLB1."""
        mas1, mas2, mas3 = self.registers
        return Command(Op.TLB, mas2, mas3, mas1 | number)


def entries(state: np.void) -> list[Entry | None]:
    """Return the entries of TLB1, None for those that are not valid; ``state`` is a `STATE`."""
    return [Entry.read(words) for words in state["tlb1"]]


def largest(tlb1cfg: int) -> int:
    """Return the size of the largest page, bytes (TLB1CFG[MAXSIZE]), as far as one is asked for."""
    return min(LARGEST, 1024 << 2 * (tlb1cfg >> 16 & 0xF))


def pieces(virtual: int, physical: int, size: int, most: int = 1 << 28) -> Iterator[Entry]:
    """Yield the pages that map a range; each is a power of 4 KiB, aligned on both sides, ``most`` at most."""
    end = virtual + size
    while virtual < end:
        page = PAGE
        while 4 * page <= min(end - virtual, most) and not virtual % (4 * page) and not physical % (4 * page):
            page *= 4
        yield Entry(virtual, physical, page)
        virtual, physical = virtual + page, physical + page
