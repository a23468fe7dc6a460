"""What is known of a register where a word of flags is used: numbers, arguments, that word or bits of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

__all__ = [
    "ALL",
    "Added",
    "Argument",
    "Known",
    "State",
    "Value",
    "Word",
    "both",
    "joined",
    "mapped",
    "masked",
    "with_bits",
]

ALL = 0xFFFF_FFFF
_MOST = 32  # numbers that one register may hold


@dataclass(frozen=True, slots=True)
class Known:
    """One of some numbers."""

    numbers: frozenset[int]


@dataclass(frozen=True, slots=True)
class Argument:
    """What a register held where the function was entered."""

    register: int


Added = int | Argument | None  # None: anything


@dataclass(frozen=True, slots=True)
class Word:
    """The word's bits of ``keep``, with those of ``added`` besides."""

    keep: int = ALL
    added: Added = 0


Value = Known | Argument | Word
State = dict[int, Value]  # by register; what is not there may be anything


def joined(one: State, other: State) -> State:
    """Return what is known where control comes from two places."""
    found: State = {}
    for register in one.keys() & other.keys():
        value = _either(one[register], other[register])
        if value is not None:
            found[register] = value
    return found


def _either(a: Value, b: Value) -> Value | None:
    if a == b:
        return a
    if isinstance(a, Known) and isinstance(b, Known) and len(a.numbers | b.numbers) <= _MOST:
        return Known(a.numbers | b.numbers)
    if isinstance(a, Word) and isinstance(b, Word):
        numbers = isinstance(a.added, int) and isinstance(b.added, int)
        return Word(a.keep | b.keep, a.added | b.added if numbers else None)  # type: ignore[operator]
    return None


def mapped(value: Value | None, change: Callable[[int], int]) -> Value | None:
    """Return what becomes of each number."""
    return Known(frozenset(map(change, value.numbers))) if isinstance(value, Known) else None


def masked(value: Value | None, mask: int) -> Value | None:
    """Return a value AND a number."""
    if isinstance(value, Word):
        return Word(value.keep & mask, value.added & mask if isinstance(value.added, int) else value.added)
    return mapped(value, lambda number: number & mask)


def both(one: Value | None, other: Value | None) -> Value | None:
    """Return one AND the other."""
    if isinstance(other, Word):
        one, other = other, one
    if not isinstance(other, Known):
        return None
    mask = ALL
    for number in other.numbers:
        mask &= number
    if isinstance(one, Word):
        return masked(one, mask)
    return mapped(one, lambda number: number & mask) if len(other.numbers) == 1 else None


def with_bits(one: Value | None, other: Value | None) -> Value | None:
    """Return one OR the other."""
    if isinstance(other, Word):
        one, other = other, one
    if isinstance(one, Word):
        if isinstance(other, Argument) and one.added == 0:
            return Word(one.keep, other)
        if isinstance(other, Known) and isinstance(one.added, int):
            added = one.added
            for number in other.numbers:
                added |= number
            return Word(one.keep, added)
        return None if isinstance(other, Word) else Word(one.keep, None)
    if isinstance(one, Known) and isinstance(other, Known):
        return Known(frozenset(a | b for a in one.numbers for b in other.numbers))
    return None
