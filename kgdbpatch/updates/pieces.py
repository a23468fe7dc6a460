"""Take an object apart into its pieces: functions and data, each with what it refers to."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import NamedTuple

from kgdbpatch.updates.elf_object import ALLOC, CODE, MERGE, NOBITS, STRINGS, WRITE, ElfObject, Section

__all__ = ["REL24", "Kind", "Outside", "Piece", "Pieces", "Reference", "Within", "base_name", "is_special"]

_FUNCTION, _OBJECT = (2, 10), (1, 6)  # STT_FUNC, STT_GNU_IFUNC; STT_OBJECT, STT_TLS
REL24 = 10
_BRANCH = 18 << 26  # b, bl
_MASKS = {
    **dict.fromkeys((2, REL24, 18, 23), 0xFC000003),  # branches of 26 bits
    **dict.fromkeys((7, 8, 9, 11, 12, 13), 0xFFFF0003),  # of 16 bits
    109: 0xFFE00000,  # EMB_SDA21
}
_HALVES = {3, 4, 5, 6, 32, 249, 250, 251, 252}  # 16 bits at an address that need be no word's
_DATA = re.compile(r"\.(s?data|s?bss|rodata|sdata2|sbss2)\b")
_NUMBERED = re.compile(r"\.\d+(?=\.|$)|(?<=_)_\d+_\d+(?=_)|(?<=__initcall__)\w+?__\d+_\d+(?=_)")
_COMMON = -0xFFF2  # as `Symbol.section` has SHN_COMMON


class Kind(StrEnum):
    """What a piece is."""

    FUNCTION = "function"
    DATA = "data"
    NAMELESS = "nameless"  # a table that only one function knows, as of a switch
    TABLE = "table"  # a section that the kernel walks: exceptions, bugs, jump labels


class Outside(NamedTuple):
    """The place that a name of another object means."""

    name: str
    addend: int


class Within(NamedTuple):
    """A place in a piece of the same object."""

    piece: int
    addend: int


@dataclass(frozen=True)
class Reference:
    """Where in a piece which kind of relocation is, and to what; a constant is told by its bytes."""

    offset: int
    kind: int
    target: Outside | Within | bytes


@dataclass
class Piece:
    """A function or an object of data: its bytes with all that is relocated as 0."""

    number: int
    name: str
    kind: Kind
    section: Section
    start: int
    size: int
    data: bytes  # with relocated fields as 0; b"" in .bss
    local: bool
    aliases: tuple[str, ...] = ()
    references: list[Reference] = field(default_factory=list)

    @property
    def writable(self) -> bool:
        """Tell whether the kernel may write to it."""
        return bool(self.section.flags & WRITE)


def base_name(name: str) -> str:
    """Return a name without the numbers that a compiler gives: ``count.12`` is ``count``."""
    return _NUMBERED.sub("", name)


def is_special(section: Section) -> bool:
    """Tell whether a section is neither code nor plain data."""
    return not section.flags & CODE and not _DATA.match(section.name)


class Pieces:
    """The pieces of an object, by number, by name and by place."""

    def __init__(self, elf: ElfObject) -> None:
        self.elf = elf
        self.all: list[Piece] = []
        self._in: dict[int, list[Piece]] = {}
        for section in elf.sections:
            if section.flags & ALLOC and section.size:
                self._cut(section)
        for piece in self.all:
            piece.references = list(self._references(piece))

    @cached_property
    def by_name(self) -> dict[str, Piece]:
        """Return the pieces that have names."""
        return {
            name: p for p in self.all for name in (*p.aliases, p.name) if p.kind in (Kind.FUNCTION, Kind.DATA)
        }

    @cached_property
    def users(self) -> dict[int, set[int]]:
        """Return by piece the pieces that refer to it, itself left out."""
        found: dict[int, set[int]] = {}
        for piece in self.all:
            for reference in piece.references:
                if isinstance(reference.target, Within) and reference.target.piece != piece.number:
                    found.setdefault(reference.target.piece, set()).add(piece.number)
        return found

    @cached_property
    def _symbols(self) -> dict[int, list[tuple[int, int, bool, str, int]]]:
        found: dict[int, list[tuple[int, int, bool, str, int]]] = {}
        for symbol in self.elf.symbols:
            if symbol.section > 0 and symbol.size and symbol.kind in (*_FUNCTION, *_OBJECT, 0):
                found.setdefault(symbol.section, []).append(
                    (symbol.value, -symbol.size, symbol.local, symbol.name, symbol.kind)
                )
        return found

    def is_empty(self, name: str) -> bool:
        """Tell whether a section is there and has nothing: a structure without members is a variable's."""
        return any(one.name == name and not one.size for one in self.elf.sections[1:])

    def is_common(self, name: str) -> bool:
        """Tell whether a variable is in the object as one that the linker makes room for."""
        return any(symbol.name == name and symbol.section == _COMMON for symbol in self.elf.symbols)

    def _cut(self, section: Section) -> None:
        if section.flags & MERGE:
            return
        special = is_special(section)
        symbols = sorted(self._symbols.get(section.number, []))
        whole = section.kind != NOBITS
        known = self._in.setdefault(section.number, [])
        if not symbols:
            kind = Kind.TABLE if special else Kind.NAMELESS
            data = _masked(section, 0, section.size) if whole else b""
            known.append(Piece(len(self.all), section.name, kind, section, 0, section.size, data, True))
            self.all.append(known[-1])
            return
        end = 0
        for value, size, local, name, kind_ in symbols:
            if known and value < end:
                if value == known[-1].start:
                    known[-1].aliases += (name,)
                continue
            data = _masked(section, value, -size) if whole else b""
            code = kind_ in _FUNCTION or (section.flags & CODE)
            kind = Kind.FUNCTION if code else Kind.DATA
            known.append(Piece(len(self.all), name, kind, section, value, -size, data, local))
            self.all.append(known[-1])
            end = value - size

    def _references(self, piece: Piece) -> Iterator[Reference]:
        section, end = piece.section, piece.start + piece.size
        entries = section.relocations
        taken = set()
        first = bisect_right(entries, piece.start - 1, key=lambda entry: entry.offset)
        for number in range(first, len(entries)):
            entry = entries[number]
            if entry.offset >= end:
                break
            taken.add(entry.offset & ~3)
            if entry.kind == 0:
                continue
            yield Reference(entry.offset - piece.start, entry.kind, self._target(entry.symbol, entry.addend))
        if piece.kind is Kind.FUNCTION and len(self._in[section.number]) > 1:
            yield from self._branches(piece, taken)

    def _branches(self, piece: Piece, taken: set[int]) -> Iterator[Reference]:
        """Yield the branches out of a function that the assembler has resolved within the section."""
        data = bytearray(piece.data)
        for at in range(0, piece.size - 3, 4):
            word = int.from_bytes(data[at : at + 4], "big")
            if word & 0xFC000002 != _BRANCH or piece.start + at in taken:
                continue
            distance = ((word & 0x03FFFFFC) ^ 0x02000000) - 0x02000000
            if 0 <= at + distance < piece.size:
                continue
            data[at : at + 4] = (word & 0xFC000003).to_bytes(4, "big")
            yield Reference(at, REL24, self._place(piece.section, piece.start + at + distance))
        piece.data = bytes(data)

    def _target(self, number: int, addend: int) -> Outside | Within | bytes:
        symbol = self.elf.symbols[number]
        if symbol.section <= 0:
            return Outside(symbol.name, addend)
        section = self.elf.sections[symbol.section]
        if section.flags & MERGE and section.entry_size:
            return _constant(section, symbol.value + addend)
        pieces = self._in.get(symbol.section, [])
        if symbol.size and symbol.kind != 3:
            for piece in pieces:
                if piece.start == symbol.value:
                    return Within(piece.number, addend)
        return self._place(section, symbol.value + addend)

    def _place(self, section: Section, offset: int) -> Outside | Within | bytes:
        pieces = self._in.get(section.number, [])
        if not pieces:
            return Outside(section.name, offset)
        at = max(bisect_right(pieces, offset, key=lambda piece: piece.start) - 1, 0)
        return Within(pieces[at].number, offset - pieces[at].start)


def _constant(section: Section, offset: int) -> bytes:
    if section.flags & STRINGS:
        step = section.entry_size
        end = offset
        while any(section.data[end : end + step]):
            end += step
        return section.data[offset : end + step]
    return section.data[offset : offset + section.entry_size]


def _masked(section: Section, start: int, size: int) -> bytes:
    data = bytearray(section.data[start : start + size])
    entries = section.relocations
    for number in range(bisect_right(entries, start - 1, key=lambda entry: entry.offset), len(entries)):
        at, kind = entries[number].offset - start, entries[number].kind
        if at >= size:
            break
        if kind in _HALVES:
            data[at : at + 2] = bytes(2)
        elif kind:
            word = int.from_bytes(data[at : at + 4], "big") & _MASKS.get(kind, 0)
            data[at : at + 4] = word.to_bytes(4, "big")
    return bytes(data[:size])
