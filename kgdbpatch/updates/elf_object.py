"""Read a relocatable object (ELF, 32 bits, big endian) into sections, symbols and relocations."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from kgdbpatch.errors import BadPatch

__all__ = [
    "ALLOC",
    "CODE",
    "MERGE",
    "NOBITS",
    "STRINGS",
    "WRITE",
    "ElfObject",
    "Relocation",
    "Section",
    "Symbol",
]

WRITE, ALLOC, CODE, MERGE, STRINGS = 1, 2, 4, 0x10, 0x20  # sh_flags
NOBITS = 8  # sh_type
_SYMTAB, _RELA = 2, 4
_SECTION = 3  # symbol type
_RESERVED = 0xFF00  # section numbers from here on mean something else: SHN_ABS, SHN_COMMON

_FIELDS = ["name", "type", "flags", "addr", "offset", "size", "link", "info", "align", "entsize"]
_HEADER = np.dtype([(n, ">u4") for n in _FIELDS])
_SYMBOL = np.dtype(
    [("name", ">u4"), ("value", ">u4"), ("size", ">u4"), ("info", "u1"), ("other", "u1"), ("section", ">u2")]
)
_ENTRY = np.dtype([("offset", ">u4"), ("info", ">u4"), ("addend", ">i4")])


@dataclass
class Symbol:
    """A symbol: its place is an offset in the section of that number; 0 means undefined."""

    name: str
    value: int
    size: int
    kind: int  # STT_*
    bind: int  # STB_*
    section: int

    @property
    def local(self) -> bool:
        """Tell whether other objects do not see it."""
        return self.bind == 0


@dataclass
class Relocation:
    """A relocation: where in its section, what kind, the number of its symbol, what is added."""

    offset: int
    kind: int
    symbol: int
    addend: int


@dataclass
class Section:
    """A section with its bytes (none where `NOBITS`) and relocations."""

    number: int
    name: str
    kind: int
    flags: int
    size: int
    align: int
    entry_size: int
    data: bytes
    relocations: list[Relocation] = field(default_factory=list)


@dataclass
class ElfObject:
    """An object file: its sections by number, its symbols by number."""

    sections: list[Section]
    symbols: list[Symbol]

    @classmethod
    def parse(cls, data: bytes, about: str) -> ElfObject:
        """Read an object's bytes; raise `BadPatch` where they are none of PowerPC, 32 bits."""
        if data[:7] != b"\x7fELF\x01\x02\x01" or data[16:20] != b"\x00\x01\x00\x14":
            raise BadPatch(f"{about}: not a relocatable ELF object of 32-bit PowerPC")
        try:
            return _parse(cls, data)
        except (ValueError, IndexError, TypeError) as error:
            raise BadPatch(f"{about}: a damaged object file ({error})") from error

    def named(self, name: str) -> Section | None:
        """Return the first section of that name."""
        return next((section for section in self.sections if section.name == name), None)


def _parse(cls: type[ElfObject], data: bytes) -> ElfObject:
    place, count, names = (
        int.from_bytes(data[at : at + size], "big") for at, size in ((32, 4), (48, 2), (50, 2))
    )
    headers = np.frombuffer(data, _HEADER, count or 1, place)
    if not count:  # more sections than the header has room for
        headers = np.frombuffer(data, _HEADER, int(headers[0]["size"]), place)
    names = int(headers[0]["link"]) if names == 0xFFFF else names
    texts = _body(data, headers[names])
    sections = [
        Section(
            number,
            _text(texts, h[0]),
            h[1],
            h[2],
            h[5],
            h[8],
            h[9],
            b"" if h[1] in (0, NOBITS) else _body(data, headers[number]),
        )
        for number, h in enumerate(headers.tolist())
    ]
    symbols: list[Symbol] = []
    for section, header in zip(sections, headers, strict=True):
        if section.kind == _SYMTAB:
            symbols = _symbols(section, sections[int(header["link"])].data, sections)
        elif section.kind == _RELA:
            rows = np.frombuffer(section.data, _ENTRY)
            sections[int(header["info"])].relocations += [
                Relocation(offset, info & 0xFF, info >> 8, addend) for offset, info, addend in rows.tolist()
            ]
    for section in sections:
        section.relocations.sort(key=lambda entry: entry.offset)
        if section.relocations and max(entry.symbol for entry in section.relocations) >= len(symbols):
            raise ValueError(f"a relocation of {section.name} is of no symbol")
    return cls(sections, symbols)


def _body(data: bytes, header: Any) -> bytes:
    start, size = int(header["offset"]), int(header["size"])
    if start + size > len(data):
        raise ValueError("a section ends behind the file")
    return data[start : start + size]


def _text(texts: bytes, place: int) -> str:
    return texts[place : texts.index(b"\0", place)].decode("utf-8", "surrogateescape")


def _symbols(section: Section, texts: bytes, sections: list[Section]) -> list[Symbol]:
    found = []
    for name, value, size, info, _, place in np.frombuffer(section.data, _SYMBOL).tolist():
        kind = info & 15
        if place < _RESERVED and place >= len(sections):
            raise ValueError("a symbol is in no section")
        own = sections[place].name if kind == _SECTION and place < _RESERVED else _text(texts, name)
        found.append(Symbol(own, value, size, kind, info >> 4, place if place < _RESERVED else -place))
    return found
