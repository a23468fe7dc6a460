"""Entries of a TLB: what their words say on the e500 (TLB1) and on the 440, which of them map a range."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from kgdbpatch.component.layout import Op
from kgdbpatch.component.protocol import Command

__all__ = [
    "GIVEN_BACK",
    "LARGEST",
    "OTHER_SPACE",
    "PAGE",
    "Entry",
    "Entry440",
    "entries",
    "largest",
    "pieces",
]

PAGE = 4096
LARGEST = 1 << 30  # bytes: the largest page that is asked for
OTHER_SPACE = 0x1000  # MAS1[TS]
GIVEN_BACK = 0x80  # added to the number of an entry (stub.S)
_VALID, _WIRED = 1 << 31, 1 << 30  # MAS1[V, IPROT]
_COHERENT = 0x4  # MAS2[M]
_SUPERVISOR = 0x15  # MAS3[SX, SW, SR]
_PAGES = -PAGE & 0xFFFF_FFFF

# PPC440 core user's manual, "TLB entry fields": of the first word V, TS, SIZE; of the third SX, SW, SR
_VALID_440, _OTHER_SPACE_440, _SUPERVISOR_440 = 0x200, 0x100, 0x7
_SIZES_440 = (0, 1, 2, 3, 4, 5, 7, 9)  # of 4^SIZE KiB, those that there are
_PLACE_440, _GIVEN_BACK_440 = 16, 0x80_0000  # in the command (ppc440.S): where the number is, and the flag


class Entry(NamedTuple):
    """One entry: the page's address, what memory it shows, its size in bytes, of which address space.

    Its words are those of the e500.
    """

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

    @staticmethod
    def sizes() -> list[int]:
        """Return the sizes of pages that are made for an arena, bytes."""
        return [PAGE << 2 * size for size in range(9)]


class Entry440(Entry):
    """An entry whose words are those of the 440."""

    __slots__ = ()

    @classmethod
    def read(cls, words: np.ndarray) -> Entry440 | None:
        """Return the entry that its three words and MMUCR tell of; None for one that is not valid."""
        first, second, _, _ = (int(word) for word in words)
        if not first & _VALID_440:
            return None
        size = 1024 << 2 * (first >> 4 & 0xF)
        start, physical = (word & -1024 & -size & 0xFFFF_FFFF for word in (first, second))
        return cls(start, (second & 0xF) << 32 | physical, size, bool(first & _OTHER_SPACE_440))

    @property
    def registers(self) -> tuple[int, int, int]:
        """The three words: a page of the supervisor's, of every process."""
        first = self.virtual | _VALID_440 | (_OTHER_SPACE_440 if self.other_space else 0)
        first |= (self.size.bit_length() - 11) // 2 << 4
        return first, self.physical, _SUPERVISOR_440

    def command(self, number: int) -> Command:
        """Return the command that makes it entry ``number``."""
        first, second, third = self.registers
        return Command(Op.TLB, first, second, third | number << _PLACE_440)

    @staticmethod
    def none(number: int) -> Command:
        """Return the command after which entry ``number`` maps nothing."""
        return Command(Op.TLB, 0, 0, _GIVEN_BACK_440 | number << _PLACE_440)

    @staticmethod
    def sizes() -> list[int]:
        """Return the sizes of pages that there are, bytes, from 4 KiB on."""
        return [1024 << 2 * size for size in _SIZES_440 if size]


def entries(state: np.void) -> list[Entry | None]:
    """Return the entries of TLB1, None for those that are not valid; ``state`` is a `STATE`."""
    return [Entry.read(words) for words in state["tlb1"]]


def largest(tlb1cfg: int) -> int:
    """Return the size of the largest page, bytes (TLB1CFG[MAXSIZE]), as far as one is asked for."""
    return min(LARGEST, 1024 << 2 * (tlb1cfg >> 16 & 0xF))


def pieces(virtual: int, physical: int, size: int, kind: type[Entry] = Entry) -> Iterator[Entry]:
    """Yield the pages that map a range; each is as large as the CPU and its places allow."""
    end = virtual + size
    while virtual < end:
        page = max(
            one for one in kind.sizes() if one <= end - virtual and not virtual % one and not physical % one
        )
        yield kind(virtual, physical, page)
        virtual, physical = virtual + page, physical + page
