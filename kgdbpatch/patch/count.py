"""Count hits, exactly: no interrupt or other thread can make an addition be lost.

A reservation costs two words and CR0 more than ``lwz addi stw``, which loses hits where the patch runs in a
handler or another thread in between; that this cannot be is hardly ever provable.
"""

from __future__ import annotations

from collections.abc import Sequence

from kgdbpatch.isa import encode
from kgdbpatch.isa.registers import mask
from kgdbpatch.patch.reach import free_gprs
from kgdbpatch.patch.saves import save
from kgdbpatch.patch.site import Site

__all__ = ["counted_by", "counting", "counting_alone", "counting_return", "store_index"]

_USUAL = (12, 11)  # the address's register, the value's; a call may clobber both anyway
_BEQLR = encode.bclr(12, 2)


def _load(counter: int, registers: tuple[int, int]) -> list[int]:
    address, value = registers
    low = counter & 0xFFFF
    return [
        encode.lis(address, counter >> 16),
        *([encode.ori(address, address, low)] if low else []),
        encode.lwarx(value, 0, address),
        encode.addi(value, value, 1),
        encode.stwcx(value, 0, address),
    ]


def counting(counter: int, registers: tuple[int, int] = _USUAL) -> list[int]:
    """Return words that add one to the word at ``counter``; they change CR0 and the two registers."""
    return [*_load(counter, registers), encode.bc(4, 2, 12, 0)]  # bne- to the lwarx


def counting_return(counter: int, registers: tuple[int, int], at: int) -> list[int]:
    """Return words at ``at`` that count and return by LR: the test for a lost reservation is the return."""
    words = _load(counter, registers)
    return [*words, _BEQLR, encode.b(at + 4 * (len(words) + 1), at + 4 * (len(words) - 3))]


def store_index(words: Sequence[int]) -> int:
    """Return the index of the ``stwcx.`` in the words of `counting`."""
    return len(words) - 2


def counted_by(free: frozenset[str]) -> tuple[int, int]:
    """Return the registers to count with: free ones where there are some (r0 cannot be added to)."""
    registers = free_gprs(free)
    value = next((register for register in registers if register), None)
    if value is None:
        value = _USUAL[1]
    address = next(register for register in (*registers, *_USUAL) if register != value)
    return address, value


def counting_alone(site: Site, counter: int) -> tuple[list[int], tuple[str, ...]]:
    """Return words that count with every live register kept, and the names of those kept."""
    registers = counted_by(site.free)
    saves = save(site, mask(*(f"r{number}" for number in registers), "cr0"), frame=False, seen=False)
    return [*saves.enter, *counting(counter, registers), *saves.leave], saves.registers
