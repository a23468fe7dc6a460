"""Write a relocatable object (ELF, 32 bits, big endian): the same input gives the same bytes."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

from kgdbpatch.updates.elf_object import NOBITS

__all__ = ["Fixup", "OutSection", "OutSymbol", "write_object"]

_PROGBITS, _SYMTAB, _STRTAB, _RELA = 1, 2, 3, 4
_INFO_LINK = 0x40
_HEADER = struct.Struct(">16sHHIIIIIHHHHHH")
_SECTION = struct.Struct(">10I")
_SYMBOL = struct.Struct(">IIIBBH")
_ENTRY = struct.Struct(">IIi")
_IDENT = b"\x7fELF\x01\x02\x01".ljust(16, b"\0")
_PPC, _RELOCATABLE, _FLAGS = 20, 1, 0


@dataclass(frozen=True)
class OutSymbol:
    """A symbol of a section to be written."""

    name: str
    offset: int
    size: int
    kind: int  # STT_*
    local: bool


@dataclass(frozen=True)
class Fixup:
    """A relocation to be written: against a symbol by name, which is undefined where no section has it."""

    offset: int
    kind: int
    symbol: str
    addend: int


@dataclass
class OutSection:
    """A section to be written; ``data`` is empty where it takes ``size`` bytes of zeros (.bss)."""

    name: str
    flags: int
    align: int
    data: bytes
    size: int
    symbols: list[OutSymbol] = field(default_factory=list)
    fixups: list[Fixup] = field(default_factory=list)
    kind: int = _PROGBITS


class _Texts:
    def __init__(self) -> None:
        self.data = bytearray(1)
        self._known: dict[str, int] = {"": 0}

    def place(self, text: str) -> int:
        if text not in self._known:
            self._known[text] = len(self.data)
            self.data += text.encode("utf-8", "surrogateescape") + b"\0"
        return self._known[text]


def write_object(sections: Sequence[OutSection]) -> bytes:
    """Return the bytes of an object with these sections."""
    texts, names = _Texts(), _Texts()
    rows = [(symbol, number) for number, one in enumerate(sections, 1) for symbol in one.symbols]
    rows.sort(key=lambda row: not row[0].local)  # as ELF wants: those that are local first
    known = {symbol.name: at for at, (symbol, _) in enumerate(rows, 1)}
    missing = sorted({f.symbol for one in sections for f in one.fixups if f.symbol not in known})
    known |= {name: at for at, name in enumerate(missing, len(rows) + 1)}
    table = bytearray(_SYMBOL.size)
    for symbol, number in rows:
        info = (0 if symbol.local else 1) << 4 | symbol.kind
        table += _SYMBOL.pack(texts.place(symbol.name), symbol.offset, symbol.size, info, 0, number)
    for name in missing:
        table += _SYMBOL.pack(texts.place(name), 0, 0, 1 << 4, 0, 0)

    body = bytearray(_HEADER.size)
    headers = [bytes(_SECTION.size)]
    symtab = len(sections) + sum(bool(one.fixups) for one in sections) + 1

    def add(
        name: str, kind: int, flags: int, data: bytes, size: int, link: int, info: int, align: int, each: int
    ) -> None:
        body.extend(bytes(-len(body) % max(align, 4)))
        headers.append(
            _SECTION.pack(names.place(name), kind, flags, 0, len(body), size, link, info, align, each)
        )
        body.extend(data)

    for one in sections:
        add(
            one.name,
            one.kind,
            one.flags,
            b"" if one.kind == NOBITS else one.data,
            one.size,
            0,
            0,
            one.align,
            0,
        )
    for number, one in enumerate(sections, 1):
        if one.fixups:
            entries = (_ENTRY.pack(f.offset, known[f.symbol] << 8 | f.kind, f.addend) for f in one.fixups)
            data = b"".join(entries)
            add(f".rela{one.name}", _RELA, _INFO_LINK, data, len(data), symtab, number, 4, _ENTRY.size)
    first_seen = 1 + sum(symbol.local for symbol, _ in rows)
    add(".symtab", _SYMTAB, 0, bytes(table), len(table), symtab + 1, first_seen, 4, _SYMBOL.size)
    add(".strtab", _STRTAB, 0, bytes(texts.data), len(texts.data), 0, 0, 1, 0)
    names.place(".shstrtab")
    add(".shstrtab", _STRTAB, 0, bytes(names.data), len(names.data), 0, 0, 1, 0)
    body.extend(bytes(-len(body) % 4))
    count = len(headers)
    body[: _HEADER.size] = _HEADER.pack(
        _IDENT,
        _RELOCATABLE,
        _PPC,
        1,
        0,
        0,
        len(body),
        _FLAGS,
        _HEADER.size,
        0,
        0,
        _SECTION.size,
        count,
        count - 1,
    )
    return bytes(body) + b"".join(headers)
