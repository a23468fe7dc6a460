"""Write operands as GNU objdump does: ``D,i(Z)`` gives ``r3,8(r1)``; a number behind a letter scales it."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache

__all__ = ["OPERANDS", "condition_bit", "operands", "rotation_mask", "signed"]

_CONDITIONS = ("lt", "gt", "eq", "so")


def signed(value: int, bits: int) -> int:
    """Return the low ``bits`` of a value as a signed number."""
    sign = 1 << (bits - 1)
    return (value & (sign - 1)) - (value & sign)


def rotation_mask(word: int) -> int:
    """Return the bits that a rotation (rlwinm and its like) keeps: MB to ME, round the word's end perhaps."""
    begin, end = word >> 6 & 31, word >> 1 & 31
    ones = 0xFFFFFFFF >> begin, 0xFFFFFFFF << (31 - end) & 0xFFFFFFFF
    return ones[0] & ones[1] if begin <= end else ones[0] | ones[1]


def condition_bit(number: int) -> str:
    """Return the name of a bit of CR: ``eq``, ``4*cr7+so``."""
    name = _CONDITIONS[number & 3]
    return f"4*cr{number >> 2}+{name}" if number >> 2 else name


def _register(kind: str, shift: int) -> Callable[[int], str]:
    return lambda word: f"{kind}{word >> shift & 31}"


def _number(shift: int, bits: int) -> Callable[[int], str]:
    return lambda word: str(word >> shift & ((1 << bits) - 1))


def _signed_number(shift: int, bits: int) -> Callable[[int], str]:
    return lambda word: str(signed(word >> shift, bits))


OPERANDS: dict[str, Callable[[int], str]] = {
    "D": _register("r", 21),
    "A": _register("r", 16),
    "B": _register("r", 11),
    "C": _register("r", 6),
    "Z": lambda word: f"r{word >> 16 & 31}" if word >> 16 & 31 else "0",
    "F": _register("f", 21),
    "G": _register("f", 16),
    "H": _register("f", 11),
    "J": _register("f", 6),
    "V": _register("v", 21),
    "W": _register("v", 16),
    "X": _register("v", 11),
    "Y": _register("v", 6),
    "i": _signed_number(0, 16),
    "u": _number(0, 16),
    "s": _number(11, 5),
    "b": _number(6, 5),
    "e": _number(1, 5),
    "a": _number(16, 5),
    "d": _number(21, 5),
    "z": _signed_number(16, 5),
    "y": _signed_number(11, 5),
    "n": lambda word: str(word >> 11 & 31 or 32),
    "c": lambda word: f"cr{word >> 23 & 7}",
    "x": lambda word: f"cr{word >> 18 & 7}",
    "k": lambda word: f"cr{word >> 23 & 7}," if word >> 23 & 7 else "",
    "p": lambda word: condition_bit(word >> 21 & 31),
    "q": lambda word: condition_bit(word >> 16 & 31),
    "r": lambda word: condition_bit(word >> 11 & 31),
    "f": _number(12, 8),
    "w": _number(17, 8),
    "t": _number(23, 3),
    "v": _number(12, 4),
    "g": _number(16, 4),
    "S": lambda word: str(word >> 16 & 31 | word >> 6 & 0x3E0),
    # what only other models have
    "E": lambda word: condition_bit(word >> 6 & 31),
    "I": _number(6, 4),
    "K": lambda word: f"vs{word >> 21 & 31 | (word & 1) << 5}",
    "L": lambda word: f"vs{word >> 16 & 31 | (word & 4) << 3}",
    "M": lambda word: f"vs{word >> 11 & 31 | (word & 2) << 4}",
    "N": _number(16, 2),
    "O": _number(15, 1),
    "P": _number(12, 3),
    "Q": _number(10, 1),
    "R": _number(7, 3),
    "T": _number(21, 2),
    "U": lambda word: str(word >> 11 & 31 | (word & 2) << 4),
    "h": lambda word: str(signed(word & ~3, 16)),
    "j": lambda word: str(word >> 6 & 31 | word & 32),
    "l": _number(21, 1),
    "o": lambda word: f"cr{word & 7}",
    "m": _signed_number(0, 12),
}
_TOKEN = re.compile(r"([A-Za-z])(\d*)")


@lru_cache(maxsize=1024)
def _parts(syntax: str) -> tuple[tuple[str, Callable[[int], str] | None, int], ...]:
    """Return (literal, operand, factor) triples; the last has no operand."""
    parts: list[tuple[str, Callable[[int], str] | None, int]] = []
    at = 0
    for found in _TOKEN.finditer(syntax):
        parts.append((syntax[at : found.start()], OPERANDS[found[1]], int(found[2] or 1)))
        at = found.end()
    parts.append((syntax[at:], None, 1))
    return tuple(parts)


def operands(syntax: str, word: int) -> str:
    """Return the operands of a word that is written so."""
    out = ""
    for literal, operand, factor in _parts(syntax):
        text = operand(word) if operand is not None else ""
        out += literal + (text if factor == 1 else str(int(text) * factor))
    return out
