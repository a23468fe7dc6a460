"""What is known of a register where a word of flags is used: numbers, arguments, that word or bits of it."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["ALL", "Added", "Argument", "Known", "State", "Word", "joined"]

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
        both = isinstance(a.added, int) and isinstance(b.added, int)
        return Word(a.keep | b.keep, a.added | b.added if both else None)  # type: ignore[operator]
    return None
