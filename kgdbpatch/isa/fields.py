"""Turn operand fields of words, or arrays of words, into register masks.

Of an array a field gives that half of the mask in which its registers are: bits 0-63 (r, f) or those upwards.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from kgdbpatch.isa.registers import bit

__all__ = ["FIELDS", "Field", "Halves", "Words", "field_mask"]

Words = npt.NDArray[np.uint32]
Halves = npt.NDArray[np.uint64]

_SHIFTS = {"D": 21, "A": 16, "B": 11, "C": 6}


class Field(NamedTuple):
    """One way in which a word names registers; ``bits`` say which; ``registers`` gives half of the mask."""

    half: int
    bits: int
    registers: Callable[[Any], Any]

    def scalar(self, word: int) -> int:
        """Return the mask of the registers that a word names."""
        mask: int = self.registers(word) << 64 * self.half
        return mask

    def array(self, words: Words) -> Halves:
        """Return the half of the mask in which the registers are that each word names."""
        halves: Halves = self.registers(words.astype(np.uint64))
        return halves


def field_mask(name: str) -> int:
    """Return the bits of the 5-bit field D, A, B or C in a word."""
    return 0x1F << _SHIFTS[name]


def _single(base: int, shift: int, width: int) -> Field:
    """Make the field that selects one register, ``base`` being the bit of its number 0."""
    top = (1 << width) - 1
    return Field(base // 64, top << shift, lambda word: 1 << ((word >> shift & top) + base % 64))


def _base_register() -> Field:
    plain = _single(0, 16, 5)
    return Field(0, plain.bits, lambda word: plain.registers(word) & 0xFFFF_FFFE)


def _range(word: Any) -> Any:
    """Return what lmw and stmw name: rD up to r31."""
    first = word >> 21 & 31
    return 0xFFFF_FFFF >> first << first


def _count(word: Any) -> Any:
    """Return what lswi and stswi name: as many registers from rD as NB bytes need, r0 after r31."""
    first, count = word >> 21 & 31, ((word >> 11) + 31 & 31) + 4 >> 2  # NB 0 is 32 bytes
    ones = ((1 << count) - 1) << first
    return (ones | ones >> 32) & 0xFFFF_FFFF


def _fxm(word: Any) -> Any:
    """Return what mtcrf names: one bit for each field of CR, cr0 first."""
    return sum((word >> 19 - n & 1) << _CR % 64 + n for n in range(8))


_R, _F, _CR, _V = bit("r0"), bit("f0"), bit("cr0"), bit("v0")

FIELDS: dict[str, Field] = {
    **{
        f"{kind}{letter}": _single(first, shift, 5)
        for kind, first in (("", _R), ("f", _F), ("v", _V))
        for letter, shift in {**_SHIFTS, "S": 21}.items()
    },
    "A0": _base_register(),
    "cD": _single(_CR, 23, 3),
    "cS": _single(_CR, 18, 3),
    "bD": _single(_CR, 23, 3),
    "bA": _single(_CR, 18, 3),
    "bB": _single(_CR, 13, 3),
    "cE": _single(_CR, 8, 3),
    "cO": _single(_CR, 0, 3),
    "range": Field(0, field_mask("D"), _range),
    "count": Field(0, field_mask("D") | field_mask("B"), _count),
    "fxm": Field(_CR // 64, 0xFF << 12, _fxm),
}
