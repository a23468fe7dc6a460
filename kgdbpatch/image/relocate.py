"""Apply the relocations of PowerPC Mach-O object files (mach-o/reloc.h, mach-o/ppc/reloc.h).

An entry is two words. Plain: the address in the section; then, from the high bits, the number of a
symbol (24), pc-relative (1), length (2), external (1), type (4). Scattered, when the first word's
high bit is set: pc-relative (1), length (2), type (4), address (24); then the address referred to.

What the section holds already is the value as if everything lay where the object file says, and
external symbols at 0; for a branch that is a displacement from where it stands. So each value
only grows by how far what it refers to moved, and a branch shrinks by how far it moved itself.
The other half of a 16-bit value stands in the PAIR that follows.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

__all__ = ["BadRelocation", "Relocation", "apply", "read_relocations"]

_VANILLA, _PAIR, _BR14, _BR24, _HI16, _LO16, _HA16, _LO14, _SECTDIFF = range(9)
_HI16_DIFF, _LO16_DIFF, _HA16_DIFF, _JBSR, _LO14_DIFF, _LOCAL_DIFF = range(10, 16)
_HALVES = {_HI16, _LO16, _HA16, _LO14}
_DIFFERENCES = {_SECTDIFF, _HI16_DIFF, _LO16_DIFF, _HA16_DIFF, _LO14_DIFF, _LOCAL_DIFF}
_PAIRED = _HALVES | _DIFFERENCES | {_JBSR}
_LONG = 2


class BadRelocation(ValueError):
    """A relocation says what cannot be; its text is one clause."""


@dataclass(frozen=True, slots=True)
class Relocation:
    """One relocation and what its PAIR holds: the ``other`` half, or the address subtracted.

    ``half`` is the other half whatever ``other`` is.
    ``refers`` is the number of a symbol (``external``) or section (0: none); ``scattered``: an address.
    """

    address: int
    kind: int
    length: int
    relative: bool
    external: bool
    scattered: bool
    refers: int
    other: int = 0
    half: int = 0


def read_relocations(data: bytes) -> Iterator[Relocation]:
    """Yield the relocations of a section; raise `BadRelocation` for a PAIR missing or out of place."""
    entries = list(map(_entry, struct.iter_unpack(">2I", data)))
    index = 0
    while index < len(entries):
        entry = entries[index]
        index += 1
        if entry.kind == _PAIR:
            raise BadRelocation(f"the relocation at 0x{entry.address:x} is a PAIR of nothing")
        if entry.kind in _PAIRED:
            if index == len(entries) or entries[index].kind != _PAIR:
                raise BadRelocation(f"the relocation at 0x{entry.address:x} lacks its PAIR")
            pair = entries[index]
            index += 1
            if entry.kind in _DIFFERENCES and not (entry.scattered and pair.scattered):
                raise BadRelocation(f"the difference at 0x{entry.address:x} is not scattered")
            other = pair.refers if entry.kind in _DIFFERENCES else pair.address & 0xFFFF
            entry = replace(entry, other=other, half=pair.address & 0xFFFF)
        yield entry


def _entry(words: tuple[int, int]) -> Relocation:
    first, second = words
    if first >> 31:
        return Relocation(
            address=first & 0xFFFFFF,
            kind=first >> 24 & 15,
            length=first >> 28 & 3,
            relative=bool(first >> 30 & 1),
            external=False,
            scattered=True,
            refers=second,
        )
    return Relocation(
        address=first,
        kind=second & 15,
        length=second >> 5 & 3,
        relative=bool(second >> 7 & 1),
        external=bool(second >> 4 & 1),
        scattered=False,
        refers=second >> 8,
    )


def apply(
    code: bytearray, relocation: Relocation, moved: int, target_moved: Callable[[Relocation], int]
) -> None:
    """Apply one relocation to its section's bytes, which moved by ``moved``; or raise `BadRelocation`.

    ``target_moved`` says by how much that which it refers to moved (an undefined symbol: from 0).
    """
    at, kind = relocation.address, relocation.kind
    if at + 4 > len(code):
        raise BadRelocation(f"the relocation at 0x{at:x} lies outside its section")
    if kind in _DIFFERENCES:  # both ends move together: nothing to do
        return
    if kind == _JBSR:  # a call of an island nearby, which moves with its caller
        return
    if relocation.length != _LONG:
        raise BadRelocation(f"the relocation at 0x{at:x} is of {1 << relocation.length} bytes, not 4")
    if kind not in _HALVES and kind not in {_VANILLA, _BR14, _BR24}:
        raise BadRelocation(f"the relocation at 0x{at:x} is of unknown type {kind}")
    if relocation.relative and kind in _HALVES:
        raise BadRelocation(f"the relocation at 0x{at:x} of half an address is pc-relative")
    (word,) = struct.unpack_from(">I", code, at)
    by = target_moved(relocation) - (moved if relocation.relative else 0)
    if kind == _VANILLA:
        word = word + by & 0xFFFFFFFF
    elif kind in _HALVES:
        word = word & 0xFFFF0000 | _half(kind, word & 0xFFFF, relocation.other, by)
    else:
        word = _branch(word, 26 if kind == _BR24 else 16, by, at)
    struct.pack_into(">I", code, at, word)


def _half(kind: int, half: int, other: int, by: int) -> int:
    """Return the half of an address that an instruction holds, after the address grew."""
    if kind == _HI16:
        return ((half << 16 | other) + by) >> 16 & 0xFFFF
    if kind == _HA16:
        value = (half << 16) + (other ^ 0x8000) - 0x8000 + by
        return (value + 0x8000) >> 16 & 0xFFFF
    value = (other << 16 | half) + by
    # in a doubleword form the low two bits are the opcode's
    return value & 0xFFFF if kind == _LO16 else value & 0xFFFC | half & 3


def _branch(word: int, bits: int, by: int, at: int) -> int:
    field = (1 << bits) - 4
    sign = 1 << bits - 1
    displacement = ((word & field) ^ sign) - sign + by
    if displacement & 3 or not -sign <= displacement < sign:
        raise BadRelocation(f"the branch at 0x{at:x} does not reach its target")
    return word & ~field | displacement & field
