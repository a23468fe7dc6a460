"""Turn operand fields of instruction words into register masks, one word or an array at a time.

A mask has more bits than a ``uint64``: a field of an array gives that half of it in which its registers
are, bits 0-63 (r and f registers) or bits 64 upwards.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kgdbpatch.isa.registers import bit

__all__ = ["FIELDS", "Field", "Halves", "Words", "field_mask"]

Words = npt.NDArray[np.uint32]
Halves = npt.NDArray[np.uint64]

_SHIFTS = {"D": 21, "A": 16, "B": 11, "C": 6}


@dataclass(frozen=True)
class Field:
    """One way in which a word names registers; ``bits`` are those of the word that say which."""

    half: int
    bits: int
    scalar: Callable[[int], int]
    array: Callable[[Words], Halves]


def field_mask(name: str) -> int:
    """Return the bits of the 5-bit field D, A, B or C in a word."""
    return 0x1F << _SHIFTS[name]


def _single(base: int, shift: int, width: int) -> Field:
    """Make the field that selects one register, ``base`` being the bit of its number 0."""
    top = (1 << width) - 1

    def scalar(word: int) -> int:
        return 1 << (base + (word >> shift & top))

    def array(words: Words) -> Halves:
        index = (words >> np.uint32(shift) & np.uint32(top)).astype(np.uint64)
        return np.uint64(1) << (index + np.uint64(base % 64))

    return Field(base // 64, top << shift, scalar, array)


def _base_register() -> Field:
    plain = _single(0, 16, 5)

    def scalar(word: int) -> int:
        return plain.scalar(word) & ~1

    def array(words: Words) -> Halves:
        return plain.array(words) & np.uint64(0xFFFFFFFE)

    return Field(0, plain.bits, scalar, array)


def _range() -> Field:
    """Make the field of lmw and stmw: rD up to r31."""

    def scalar(word: int) -> int:
        return 0xFFFFFFFF >> (word >> 21 & 31) << (word >> 21 & 31)

    def array(words: Words) -> Halves:
        first = (words >> np.uint32(21) & np.uint32(31)).astype(np.uint64)
        return np.uint64(0xFFFFFFFF) >> first << first

    return Field(0, field_mask("D"), scalar, array)


def _count() -> Field:
    """Make the field of lswi and stswi: as many registers from rD as NB bytes need, r0 after r31."""

    def scalar(word: int) -> int:
        first, count = word >> 21 & 31, ((word >> 11 & 31 or 32) + 3) // 4
        ones = ((1 << count) - 1) << first
        return (ones | ones >> 32) & 0xFFFFFFFF

    def array(words: Words) -> Halves:
        first = (words >> np.uint32(21) & np.uint32(31)).astype(np.uint64)
        size = (words >> np.uint32(11) & np.uint32(31)).astype(np.uint64)
        count = (np.where(size == 0, np.uint64(32), size) + np.uint64(3)) >> np.uint64(2)
        ones = ((np.uint64(1) << count) - np.uint64(1)) << first
        return (ones | ones >> np.uint64(32)) & np.uint64(0xFFFFFFFF)

    return Field(0, field_mask("D") | field_mask("B"), scalar, array)


def _fxm() -> Field:
    """Make the field of mtcrf: one bit for each field of CR, cr0 first."""
    base = bit("cr0")

    def scalar(word: int) -> int:
        return sum(1 << (base + n) for n in range(8) if word >> (19 - n) & 1)

    def array(words: Words) -> Halves:
        result = np.zeros(len(words), dtype=np.uint64)
        for n in range(8):
            chosen = (words >> np.uint32(19 - n) & np.uint32(1)).astype(np.uint64)
            result |= chosen << np.uint64(base % 64 + n)
        return result

    return Field(base // 64, 0xFF << 12, scalar, array)


_R, _F, _CR, _V = bit("r0"), bit("f0"), bit("cr0"), bit("v0")

FIELDS: dict[str, Field] = {
    "D": _single(_R, 21, 5),
    "S": _single(_R, 21, 5),
    "A": _single(_R, 16, 5),
    "A0": _base_register(),
    "B": _single(_R, 11, 5),
    "fD": _single(_F, 21, 5),
    "fS": _single(_F, 21, 5),
    "fA": _single(_F, 16, 5),
    "fB": _single(_F, 11, 5),
    "fC": _single(_F, 6, 5),
    "vD": _single(_V, 21, 5),
    "vS": _single(_V, 21, 5),
    "vA": _single(_V, 16, 5),
    "vB": _single(_V, 11, 5),
    "vC": _single(_V, 6, 5),
    "cD": _single(_CR, 23, 3),
    "cS": _single(_CR, 18, 3),
    "bD": _single(_CR, 23, 3),
    "bA": _single(_CR, 18, 3),
    "bB": _single(_CR, 13, 3),
    "cE": _single(_CR, 8, 3),
    "cO": _single(_CR, 0, 3),
    "range": _range(),
    "count": _count(),
    "fxm": _fxm(),
}
