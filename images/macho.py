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
from pathlib import Path

__all__ = ["convert"]

PAGE = 0x1000

_EM_PPC, _SHT_SYMTAB, _SHT_NOBITS, _SHF_EXECINSTR = 20, 2, 8, 4
_STB_LOCAL, _STT_SECTION, _STT_FILE, _SHN_ABS = 0, 3, 4, 0xFFF1

_MH_MAGIC, _MH_EXECUTE, _MH_NOUNDEFS = 0xFEEDFACE, 2, 1
_CPU_TYPE_POWERPC, _CPU_SUBTYPE_POWERPC_ALL = 18, 0
_LC_SEGMENT, _LC_SYMTAB, _LC_UNIXTHREAD, _PPC_THREAD_STATE = 1, 2, 5, 1
_REGULAR, _ZERO_FILL, _CSTRINGS, _INSTRUCTIONS = 0, 1, 2, 0x8000_0400
_N_ABS, _N_SECT, _N_EXT = 2, 14, 1
_READ, _WRITE, _EXECUTE = 1, 2, 4
_THREAD_WORDS = 40  # srr0 srr1 r0..r31 cr xer lr ctr mq vrsave


@dataclass(frozen=True)
class _Section:
    segment: str
    name: str
    address: int
    size: int
    align: int
    data: bytes | None  # None: zero fill
    code: bool

    @property
    def flags(self) -> int:
        if self.data is None:
            return _ZERO_FILL
        if self.code:
            return _REGULAR | _INSTRUCTIONS
        return _CSTRINGS if self.name == "__cstring" else _REGULAR


@dataclass
class _Segment:
    name: str
    sections: list[_Section] = field(default_factory=list)

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
class _Symbol:
    name: str
    external: bool
    section: int | None  # ELF section index; None: absolute
    value: int


def _round(size: int) -> int:
    return -(-size // PAGE) * PAGE


def _string(table: bytes, offset: int) -> str:
    return table[offset : table.index(b"\0", offset)].decode()


def _read_elf(elf: bytes) -> tuple[int, dict[int, _Section], list[_Symbol]]:
    """Return the entry, the sections to keep by ELF index, and the symbols."""
    if elf[:6] != b"\x7fELF\x01\x02" or struct.unpack_from(">H", elf, 18)[0] != _EM_PPC:
        raise ValueError("no big-endian 32-bit PowerPC ELF file")
    entry, _, table = struct.unpack_from(">3I", elf, 24)
    count, names = struct.unpack_from(">2H", elf, 48)
    headers = [struct.unpack_from(">10I", elf, table + 40 * index) for index in range(count)]

    def content(index: int) -> bytes:
        offset, size = headers[index][4:6]
        return elf[offset : offset + size]

    sections, symbols = {}, []
    for index, (name_at, kind, flags, address, _, size, link, _, align, _) in enumerate(headers):
        segment, comma, name = _string(content(names), name_at).partition(",")
        if comma:
            data = None if kind == _SHT_NOBITS else content(index)
            code = bool(flags & _SHF_EXECINSTR)
            sections[index] = _Section(segment, name, address, size, align, data, code)
        if kind == _SHT_SYMTAB:
            strings, entries = content(link), content(index)
            for symbol_name, value, _, info, _, place in struct.iter_unpack(">3I2BH", entries):
                text = _string(strings, symbol_name)
                if text and place and info & 15 not in (_STT_SECTION, _STT_FILE):
                    where = None if place == _SHN_ABS else place
                    symbols.append(_Symbol(text, info >> 4 != _STB_LOCAL, where, value))
    return entry, sections, symbols


def _segments(sections: list[_Section]) -> list[_Segment]:
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


def _symbol_table(symbols: list[_Symbol], ordinals: dict[int, int]) -> tuple[bytes, bytes, int]:
    """Return nlist entries, strings, count: local symbols by address, then external ones by name."""
    kept = [symbol for symbol in symbols if symbol.section is None or symbol.section in ordinals]
    local = sorted((s for s in kept if not s.external), key=lambda s: (s.value, s.name))
    external = sorted((s for s in kept if s.external), key=lambda s: s.name)
    strings, entries = bytearray(4), bytearray()
    for symbol in local + external:
        kind = _N_ABS if symbol.section is None else _N_SECT
        ordinal = 0 if symbol.section is None else ordinals[symbol.section]
        kind |= _N_EXT if symbol.external else 0
        entries += struct.pack(">I2BHI", len(strings), kind, ordinal, 0, symbol.value)
        strings += symbol.name.encode() + b"\0"
    strings += bytes(-len(strings) % 4)
    return bytes(entries), bytes(strings), len(local) + len(external)


def _name(text: str) -> bytes:
    if len(text.encode()) > 16:
        raise ValueError(f"the name {text} is longer than 16 bytes")
    return text.encode()


def _section_command(section: _Section, start: int, offset: int) -> bytes:
    at = 0 if section.data is None else offset + section.address - start
    align = max(section.align, 1).bit_length() - 1
    names = (_name(section.name), _name(section.segment))
    return struct.pack(
        ">16s16s9I", *names, section.address, section.size, at, align, 0, 0, section.flags, 0, 0
    )


def convert(elf: bytes) -> bytes:
    """Return the Mach-O executable made of a linked ELF kernel; raise `ValueError` for another file."""
    entry, sections, symbols = _read_elf(elf)
    if not sections:
        raise ValueError("no section is named SEGMENT,section")
    segments = _segments(list(sections.values()))
    ordinals = {index: ordinal for ordinal, index in enumerate(sections, start=1)}
    entries, strings, count = _symbol_table(symbols, ordinals)

    size = sum(56 + 68 * len(segment.sections) for segment in segments) + 56 + 24 + 16 + 4 * _THREAD_WORDS
    file = bytearray(_round(28 + size))
    commands = []
    for segment in segments:
        data, offset = segment.data, len(file)
        parts = b"".join(_section_command(part, segment.address, offset) for part in segment.sections)
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
    commands.append(struct.pack(f">{4 + _THREAD_WORDS}I", *thread, entry, *[0] * (_THREAD_WORDS - 1)))
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
