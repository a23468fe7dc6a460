"""Enter a body by a trap: the splice word, and the hook of the program exception (paper 3.3.2).

The hook, to which the vector's first word leads, looks SRR0 up in a hash table, puts the body's address there
and returns: every register is as at the site. Traps of anybody else go on in the kernel's handler.
"""

from __future__ import annotations

from typing import NamedTuple

from kgdbpatch.isa import encode

__all__ = ["HOMES", "HOOK_SIZE", "TWI", "Hook", "is_trap", "trap_word"]

HOMES = 0x2000  # entries (site, body) of the hash table by bits 2 to 14 of the site; more lie behind them

TWI = 3  # the primary opcode of our traps
_ALWAYS = 31
HOOK_SIZE = 140  # bytes that a hook takes in real mode, with what it keeps there


def trap_word(number: int) -> int:
    """Return the trap that enters patch ``number``, below 2^18; unlike compilers' it names r16 or above."""
    return encode.twi(_ALWAYS, 16 | number >> 14, (number & 0x3FFF) << 1)


def is_trap(splice: int) -> bool:
    """Tell whether a splice word is a trap."""
    return splice >> 26 == TWI


class Hook(NamedTuple):
    """The hook: virtual addresses of the vector and of its code, the vector's own word; ``size`` in bytes.

    ``shift`` is what physical addresses are less than virtual ones, ``table`` the hash table's address, a
    multiple of 64 KiB, as the hook's loads have it; ``scratch`` the SPR for its first register, 0 in real
    mode.
    """

    vector: int
    original: int
    at: int
    shift: int
    table: int
    scratch: int = 0
    size: int = HOOK_SIZE

    @property
    def splice(self) -> int:
        """The word over the vector's first."""
        return encode.b(self.vector, self.at)

    @property
    def span(self) -> range:
        """The virtual addresses of the words that the hook takes: its code, and what it keeps behind that."""
        return range(self.at, self.at + self.size, 4)

    @property
    def translated(self) -> bool:
        """Whether it runs translated, not in real mode."""
        return bool(self.scratch)

    def inside(self, pc: int) -> bool:
        """Tell whether a CPU in the mode that exceptions enter has begun with the hook, by its pc."""
        address = pc if self.translated else pc + self.shift
        return address == self.vector or self.at <= address < self.at + self.size

    def originals(self) -> dict[int, int]:
        """Return virtual address ─► the kernel's own word, for every word that the hook changes."""
        return {self.vector: self.original} | dict.fromkeys(self.span, 0)
