"""Turn a linked big-endian PowerPC ELF kernel into a Mach-O executable (MH_EXECUTE).

An ELF section named ``SEGMENT,section`` becomes that section of that segment; other sections are
left behind. Segments and sections keep the ELF file's order, so section ordinals (counted from the
file's start, as ``n_sect`` wants them) are the ELF order too. Symbols keep their names: the
compiler was told ``-fleading-underscore``. File: header, load commands, one page-aligned piece for
each segment, ``__LINKEDIT`` with symbols and strings. Same input, same bytes.

Format: "Mac OS X ABI Mach-O File Format Reference".
"""

from __future__ import annotations

import argparse
import struct
import sys
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

__all__ = ["Elf", "Section", "Symbol", "convert", "read_elf", "symbol_entry"]

PAGE = 0x1000

_EM_PPC, _SHT_SYMTAB, _SHT_RELA, _SHT_NOBITS, _SHF_EXECINSTR = 20, 2, 4, 8, 4
_STB_LOCAL, _STT_FUNC, _STT_SECTION, _STT_FILE, _SHN_ABS = 0, 2, 3, 4, 0xFFF1

_MH_MAGIC, _MH_EXECUTE, _MH_NOUNDEFS = 0xFEEDFACE, 2, 1
_CPU_TYPE_POWERPC, _CPU_SUBTYPE_POWERPC_ALL = 18, 0
_LC_SEGMENT, _LC_SYMTAB, _LC_UNIXTHREAD, _PPC_THREAD_STATE = 1, 2, 5, 1
_REGULAR, _ZERO_FILL, _CSTRINGS, _INSTRUCTIONS = 0, 1, 2, 0x8000_0400
_N_ABS, _N_SECT, _N_EXT, _N_FUN, _N_SO = 2, 14, 1, 0x24, 0x64
_READ, _WRITE, _EXECUTE = 1, 2, 4
_THREAD_WORDS = 40  # srr0 srr1 r0..r31 cr xer lr ctr mq vrsave


@dataclass(frozen=True)
class Section:
    """A section of the ELF file that becomes one of the Mach-O file."""

    segment: str
    name: str
    address: int
    size: int
    align: int
    data: bytes | None  # None: zero fill
    code: bool

    @property
    def flags(self) -> int:
        """Type and attributes, as the Mach-O file has them."""
        if self.data is None:
            return _ZERO_FILL
        if self.code:
            return _REGULAR | _INSTRUCTIONS
        return _CSTRINGS if self.name == "__cstring" else _REGULAR

    def command(self, address: int, offset: int, relocations: int = 0, count: int = 0) -> bytes:
        """Return the section's part of its segment's load command."""
        align = max(self.align, 1).bit_length() - 1
        names = (_name(self.name), _name(self.segment))
        where = (address, self.size, offset, align, relocations, count)
        return struct.pack(">16s16s9I", *names, *where, self.flags, 0, 0)


@dataclass
class _Segment:
    name: str
    sections: list[Section] = field(default_factory=list)

    @property
    def address(self) -> int:
        return self.sections[0].address

    @property
    def size(self) -> int:
        return _round(self.sections[-1].address + self.sections[-1].size - self.address)

    @property
    def data(self) -> bytes:
        blob = bytearray()
        for section in self.sections:
            if section.data is not None:
                blob.extend(bytes(section.address - self.address - len(blob)))
                blob.extend(section.data)
        return bytes(blob)

    @property
    def protection(self) -> int:
        return _READ | _WRITE if self.name == "__DATA" else _READ | _EXECUTE


@dataclass(frozen=True)
class Symbol:
    """A symbol of the ELF file; ``file`` is the source file that a local one comes from."""

    name: str
    external: bool
    section: int | None  # ELF section index; None: absolute; 0: undefined
    value: int
    function: bool = False
    file: str = ""


@dataclass(frozen=True)
class Elf:
    """What is read of an ELF file: ``relocations`` are (section, offset, info, addend)."""

    entry: int
    sections: dict[int, Section]
    symbols: list[Symbol]
    relocations: list[tuple[int, int, int, int]]


def _round(size: int) -> int:
    return -(-size // PAGE) * PAGE


def _string(table: bytes, offset: int) -> str:
    return table[offset : table.index(b"\0", offset)].decode()


def _read_symbols(entries: bytes, strings: bytes) -> list[Symbol]:
    found, file = [], ""
    for name, value, _, info, _, place in struct.iter_unpack(">3I2BH", entries):
        text, kind = _string(strings, name), info & 15
        if kind == _STT_FILE:
            file = text
        local = info >> 4 == _STB_LOCAL
        where = None if place == _SHN_ABS else place
        text = "" if kind in (_STT_SECTION, _STT_FILE) else text
        found.append(Symbol(text, not local, where, value, kind == _STT_FUNC, file if local else ""))
    return found


def read_elf(elf: bytes) -> Elf:
    """Take a big-endian PowerPC ELF file apart; raise `ValueError` for another file."""
    if elf[:6] != b"\x7fELF\x01\x02" or struct.unpack_from(">H", elf, 18)[0] != _EM_PPC:
        raise ValueError("no big-endian 32-bit PowerPC ELF file")
    entry, _, table = struct.unpack_from(">3I", elf, 24)
    count, names = struct.unpack_from(">2H", elf, 48)
    headers = [struct.unpack_from(">10I", elf, table + 40 * index) for index in range(count)]

    def content(index: int) -> bytes:
        offset, size = headers[index][4:6]
        return elf[offset : offset + size]

    sections: dict[int, Section] = {}
    symbols: list[Symbol] = []
    relocations: list[tuple[int, int, int, int]] = []
    for index, (name_at, kind, flags, address, _, size, link, of, align, _) in enumerate(headers):
        segment, comma, name = _string(content(names), name_at).partition(",")
        if kind == _SHT_RELA:
            relocations += [(of, *entry) for entry in struct.iter_unpack(">2Ii", content(index))]
        elif comma:
            data = None if kind == _SHT_NOBITS else content(index)
            code = bool(flags & _SHF_EXECINSTR)
            sections[index] = Section(segment, name, address, size, align, data, code)
        if kind == _SHT_SYMTAB:
            symbols = _read_symbols(content(index), content(link))
    return Elf(entry, sections, symbols, relocations)


def _segments(sections: list[Section]) -> list[_Segment]:
    segments: list[_Segment] = []
    for section in sections:
        if not segments or segments[-1].name != section.segment:
            if any(segment.name == section.segment for segment in segments):
                raise ValueError(f"the sections of {section.segment} are not adjacent")
            segments.append(_Segment(section.segment))
        held = segments[-1].sections
        if held and held[-1].data is None and section.data is not None:
            raise ValueError(f"{section.segment}: data behind zero fill")
        held.append(section)
    for segment in segments:
        if segment.address % PAGE:
            raise ValueError(f"segment {segment.name} is not page-aligned")
    return segments


def symbol_entry(name: int, kind: int, section: int, description: int, value: int) -> bytes:
    """Return one entry (``struct nlist``) of a symbol table."""
    return struct.pack(">I2BHI", name, kind, section, description, value)


class _SymbolTable:
    """Entries and strings as they are put together; the same string is kept once."""

    def __init__(self, ordinals: dict[int, int]) -> None:
        self.entries, self.strings = bytearray(), bytearray(4)
        self._ordinals, self._known = ordinals, {"": 0}

    def add(self, name: str, kind: int, section: int | None, value: int, description: int = 0) -> None:
        if name not in self._known:
            self._known[name] = len(self.strings)
            self.strings += name.encode() + b"\0"
        ordinal = self._ordinals[section] if section else 0
        self.entries += symbol_entry(self._known[name], kind, ordinal, description, value)

    def add_symbol(self, symbol: Symbol) -> None:
        kind = _N_ABS if symbol.section is None else _N_SECT
        self.add(symbol.name, kind | (_N_EXT if symbol.external else 0), symbol.section, symbol.value)


def _symbol_table(symbols: list[Symbol], ordinals: dict[int, int]) -> tuple[bytes, bytes, int]:
    """Return nlist entries, strings, count.

    Local symbols by file and address, each file's between debugging entries that name it (N_SO)
    and its functions (N_FUN), then external ones by name.
    """
    kept = [s for s in symbols if s.name and (s.section is None or s.section in ordinals)]
    local = sorted((s for s in kept if not s.external), key=lambda s: (s.file, s.value, s.name))
    table = _SymbolTable(ordinals)
    for file, group in groupby(local, key=lambda s: s.file):
        members = list(group)
        first = next((s for s in members if s.section), None)
        place = (first.section, first.value) if first else (None, 0)
        table.add(file, _N_SO, *place)
        for symbol in members:
            if symbol.function:
                table.add(f"{symbol.name}:f1", _N_FUN, symbol.section, symbol.value)
            table.add_symbol(symbol)
        table.add("", _N_SO, *place)
    for symbol in sorted((s for s in kept if s.external), key=lambda s: s.name):
        table.add_symbol(symbol)
    table.strings += bytes(-len(table.strings) % 4)
    return bytes(table.entries), bytes(table.strings), len(table.entries) // 12


def _name(text: str) -> bytes:
    if len(text.encode()) > 16:
        raise ValueError(f"the name {text} is longer than 16 bytes")
    return text.encode()


def convert(elf: bytes) -> bytes:
    """Return the Mach-O executable made of a linked ELF kernel; raise `ValueError` for another file."""
    held = read_elf(elf)
    sections = held.sections
    if not sections:
        raise ValueError("no section is named SEGMENT,section")
    segments = _segments(list(sections.values()))
    ordinals = {index: ordinal for ordinal, index in enumerate(sections, start=1)}
    entries, strings, count = _symbol_table(held.symbols, ordinals)

    size = sum(56 + 68 * len(segment.sections) for segment in segments) + 56 + 24 + 16 + 4 * _THREAD_WORDS
    file = bytearray(_round(28 + size))
    commands = []
    for segment in segments:
        data, offset = segment.data, len(file)
        parts = b"".join(
            part.command(part.address, 0 if part.data is None else offset + part.address - segment.address)
            for part in segment.sections
        )
        head = (_LC_SEGMENT, 56 + len(parts), _name(segment.name), segment.address, segment.size, offset)
        rest = (len(data), _READ | _WRITE | _EXECUTE, segment.protection, len(segment.sections), 0)
        commands.append(struct.pack(">2I16s8I", *head, *rest) + parts)
        file += data
        file += bytes(_round(len(file)) - len(file))
    end = max(segment.address + segment.size for segment in segments)
    offset, linkedit = len(file), entries + strings
    last = (end, _round(len(linkedit)), offset, len(linkedit), _READ | _WRITE | _EXECUTE, _READ, 0, 0)
    commands.append(struct.pack(">2I16s8I", _LC_SEGMENT, 56, b"__LINKEDIT", *last))
    table = (offset, count, offset + len(entries), len(strings))
    commands.append(struct.pack(">6I", _LC_SYMTAB, 24, *table))
    thread = (_LC_UNIXTHREAD, 16 + 4 * _THREAD_WORDS, _PPC_THREAD_STATE, _THREAD_WORDS)
    commands.append(struct.pack(f">{4 + _THREAD_WORDS}I", *thread, held.entry, *[0] * (_THREAD_WORDS - 1)))
    file += linkedit

    body = b"".join(commands)
    if len(body) != size:
        raise AssertionError(f"{len(body)} bytes of load commands, {size} expected")
    cpu = (_CPU_TYPE_POWERPC, _CPU_SUBTYPE_POWERPC_ALL)
    header = struct.pack(">7I", _MH_MAGIC, *cpu, _MH_EXECUTE, len(commands), size, _MH_NOUNDEFS)
    file[: 28 + size] = header + body
    return bytes(file)


def main() -> None:
    """Convert the file named first into the file named second."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("elf", type=Path)
    parser.add_argument("macho", type=Path)
    names = parser.parse_args()
    try:
        names.macho.write_bytes(convert(names.elf.read_bytes()))
    except ValueError as error:
        sys.exit(f"{names.elf}: {error}")


if __name__ == "__main__":
    main()
