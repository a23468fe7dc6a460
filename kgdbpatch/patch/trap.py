"""Enter a body by a trap: the splice word, and the hook of the program exception (paper 3.3.2).

Where no branch gets from a site to a body, the site gets a trap. The CPU then goes to the vector
of the program exception, in real mode, with the site in SRR0; the word at the vector's start
leads to the hook, which looks SRR0 up in a hash table of the arena, puts the body's address into
SRR0 instead and returns: every register is as it was at the site. Traps of anybody else go on
in the kernel's own handler.

The hook keeps three registers and CR in words behind its code. Exceptions are off from the vector
to its ``rfi``, so nothing else can use them meanwhile; a second CPU would need words of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

from kgdbpatch.errors import Refused
from kgdbpatch.isa import encode

__all__ = ["HOMES", "HOOK_SIZE", "TWI", "Hook", "is_trap", "trap_word"]

HOMES = 0x2000  # entries (site, body) of the hash table by bits 2 to 14 of the site; more lie behind them

TWI = 3  # the primary opcode of our traps
_ALWAYS, _SRR0, _SRR1 = 31, 26, 27
_WORK = (10, 11, 12)
_CODE_WORDS = 31
HOOK_SIZE = 4 * (_CODE_WORDS + len(_WORK) + 1)
_LOW = 0x8000  # real-mode addresses that a displacement alone reaches


def trap_word(number: int) -> int:
    """Return the trap that enters patch ``number``, below 2^18; no two are alike, and none is the kernel's.

    Compilers and kernels write ``twi 31,0,0``; this one names r16 and above. Its last bit is 0.
    """
    return encode.twi(_ALWAYS, 16 | number >> 14, (number & 0x3FFF) << 1)


def is_trap(splice: int) -> bool:
    """Tell whether a splice word is a trap."""
    return splice >> 26 == TWI


@dataclass(frozen=True, slots=True)
class Hook:
    """Where the hook is: the vector's and the code's kernel virtual addresses, the vector's own word.

    ``shift`` is what physical addresses are less than virtual ones, ``table`` the physical address of
    the hash table, a multiple of 64 KiB.
    """

    vector: int
    original: int
    at: int
    shift: int
    table: int

    @property
    def splice(self) -> int:
        """The word over the vector's first."""
        return encode.b(self.vector, self.at)

    def code(self) -> list[int]:
        """Return the hook's code; raise `Refused` (rule ``trap``) where it cannot be had."""
        start = self.at - self.shift
        if not 0 <= start < _LOW - HOOK_SIZE:
            raise Refused("trap", f"the hook at 0x{self.at:08x} lies too high in memory for real mode")
        keep = start + 4 * _CODE_WORDS
        key, entry, pointer = 11, 10, 12
        restore = [
            encode.lwz(entry, keep + 4 * len(_WORK), 0),
            encode.mtcrf(0xFF, entry),
            *(encode.lwz(register, keep + 4 * n, 0) for n, register in enumerate(_WORK)),
        ]
        words = [
            *(encode.stw(register, keep + 4 * n, 0) for n, register in enumerate(_WORK)),
            encode.mfcr(entry),
            encode.stw(entry, keep + 4 * len(_WORK), 0),
            encode.mfspr(key, _SRR0),
            encode.mfspr(entry, _SRR1),
            encode.rlwimi(key, entry, 18, 31, 31),  # user mode (PR): no site has bit 31
            encode.lis(pointer, self.table >> 16),
            encode.rlwimi(pointer, key, 1, 16, 28),
        ]
        loop = len(words)
        onward = self._onward(start + 4 * (loop + 6 + len(restore)))
        hit = loop + 6 + len(restore) + len(onward)
        words += [
            encode.lwz(entry, 0, pointer),
            encode.cmplw(entry, key),
            encode.bc(12, 2, 4 * (loop + 2), 4 * hit),  # beq
            encode.addi(pointer, pointer, 8),
            encode.cmpwi(entry, 0),
            encode.bc(4, 2, 4 * (loop + 5), 4 * loop),  # bne
            *restore,
            *onward,
            encode.lwz(pointer, 4, pointer),
            encode.mtspr(_SRR0, pointer),
            *restore,
            encode.rfi(),
        ]
        assert len(words) <= _CODE_WORDS
        return words

    def _onward(self, at: int) -> list[int]:
        """Return what goes on in the kernel's own handler: its first instruction, and on behind it."""
        from kgdbpatch.isa.decode import Kind, decode  # on use: a patch table is listed without it
        from kgdbpatch.patch.displace import plain

        vector = self.vector - self.shift
        first = decode(self.original, vector)
        if plain(first):
            return [self.original, encode.b(at + 4, vector + 4)]
        if first.kind is Kind.JUMP and first.target is not None:
            return [encode.b(at, first.target)]
        raise Refused(
            "trap", f"'{first.text}', the first word of the exception vector, cannot be moved", self.vector
        )

    def words(self) -> dict[int, int]:
        """Return virtual address ─► word of all code of the hook, the vector's word not included."""
        return {self.at + 4 * index: word for index, word in enumerate(self.code())}

    def originals(self) -> dict[int, int]:
        """Return virtual address ─► the kernel's own word, for every word that the hook changes."""
        return {self.vector: self.original} | dict.fromkeys((*self.words(), *self.kept()), 0)

    def kept(self) -> range:
        """Return the virtual addresses of the words in which the hook keeps registers."""
        return range(self.at + 4 * _CODE_WORDS, self.at + HOOK_SIZE, 4)
