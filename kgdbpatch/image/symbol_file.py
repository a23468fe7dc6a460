"""Write an ELF file that holds nothing but symbols, for debuggers: names at addresses, no code."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["Place", "symbol_file"]

_HEADER = struct.Struct(">16sHHIIIIIHHHHHH")
_SECTION = struct.Struct(">10I")
_SYMBOL = struct.Struct(">IIIBBH")
_IDENT = b"\x7fELF\x01\x02\x01".ljust(16, b"\0")
_EXEC, _PPC = 2, 20  # e_type, e_machine
_SYMTAB, _STRTAB, _NOBITS = 2, 3, 8
_ALLOC_EXEC = 0x6  # SHF_ALLOC | SHF_EXECINSTR
_GLOBAL, _OBJECT, _FUNC = 0x10, 1, 2
_NAMES = b"\0.symtab\0.strtab\0.text\0"


class Place(NamedTuple):
    """A name of an address; ``size`` in bytes, 0 where it is not known."""

    name: str
    address: int
    size: int
    code: bool = True


def symbol_file(pieces: Sequence[tuple[int, int]], places: Sequence[Place]) -> bytes:
    """Return a big-endian PowerPC ELF file with sections at ``pieces`` (start, end) and names in them.

    Names in none of them are left out. Of several names of one address debuggers show the last one.
    """
    strings, symbols = bytearray(b"\0"), bytearray(_SYMBOL.size)
    for place in places:
        within = (n for n, (start, end) in enumerate(pieces, 1) if start <= place.address < end)
        section = next(within, 0)
        if section:
            kind = _GLOBAL | (_FUNC if place.code else _OBJECT)
            symbols += _SYMBOL.pack(len(strings), place.address, place.size, kind, 0, section)
            strings += place.name.encode() + b"\0"
    count = len(pieces) + 4
    at = _HEADER.size + count * _SECTION.size
    tables = ((_SYMTAB, symbols), (_STRTAB, strings), (_STRTAB, _NAMES))
    rows = bytes(_SECTION.size)
    for start, end in pieces:
        name = _NAMES.index(b".text")
        rows += _SECTION.pack(name, _NOBITS, _ALLOC_EXEC, start, at, end - start, 0, 0, 4, 0)
    for kind, data in tables:
        name = _NAMES.index(b".symtab" if kind == _SYMTAB else b".strtab")
        linked, size = (count - 2, _SYMBOL.size) if kind == _SYMTAB else (0, 0)
        info = 1 if kind == _SYMTAB else 0  # the first global one
        rows += _SECTION.pack(name, kind, 0, 0, at, len(data), linked, info, 1, size)
        at += len(data)
    header = _HEADER.pack(
        *(_IDENT, _EXEC, _PPC, 1, 0, 0, _HEADER.size, 0),
        *(_HEADER.size, 0, 0, _SECTION.size, count, count - 1),
    )
    return header + rows + b"".join(bytes(data) for _, data in tables)
