"""Read a big-endian PowerPC Mach-O executable through LIEF."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

import lief

from kgdbpatch.errors import BadImage
from kgdbpatch.image.contents import Contents, plainness
from kgdbpatch.image.model import Section, Segment, Symbol

__all__ = ["defined", "in_order", "read_macho", "symbol_kind"]

lief.logging.disable()  # it writes to stderr what `BadImage` says better

_N_STAB, _N_TYPE, _N_EXT = 0xE0, 0x0E, 0x01
_N_ABS, _N_SECT = 0x2, 0xE
_Section = lief.MachO.Section
_INSTRUCTIONS = (_Section.FLAGS.PURE_INSTRUCTIONS, _Section.FLAGS.SOME_INSTRUCTIONS)
_ZERO_FILL = (_Section.TYPE.ZEROFILL, _Section.TYPE.GB_ZEROFILL)
_VM_PROT_WRITE = 2
_INTERRUPTS = "__VECTORS,__interrupts"
_CODE = {"__TEXT,__text", _INTERRUPTS}
_PPC_THREAD_STATE = 1


def read_macho(path: object, data: bytes) -> Contents:
    """Take apart the Mach-O file ``data``; raise `BadImage` when a part lies beyond its end."""
    quick: Any = lief.MachO.ParserConfig.quick
    quick.fix_from_memory = False
    fat: Any = lief.MachO.parse(data, quick)
    if fat is None or not len(fat):
        raise BadImage(path, "LIEF cannot read this Mach-O file (truncated?)")
    binary = fat.at(0)
    if len(list(binary.commands)) != binary.header.nb_cmds:
        raise BadImage(path, "truncated or damaged load commands")
    sections, segments = _sections(path, data, binary)
    return Contents(
        entry=_entry(path, binary, sections),
        sections=tuple(sections),
        segments=tuple(segments),
        symbols=_symbols(path, data, binary, sections),
    )


def _sections(path: object, data: bytes, binary: Any) -> tuple[list[Section], list[Segment]]:
    sections: list[Section] = []
    segments: list[Segment] = []
    for command in binary.segments:
        # A fixed name field of 16 bytes: a damaged file may hold anything there.
        owner = str(command.name)
        offset, held, size = command.file_offset, command.file_size, command.virtual_size
        start = command.virtual_address
        if held and offset + held > len(data):
            raise BadImage(path, f"truncated: segment {owner!r} ends beyond the end of the file")
        if start + size > 1 << 32:
            raise BadImage(path, f"segment {owner!r} ends beyond the 32-bit address space")
        if len(command.sections) != command.numberof_sections:
            raise BadImage(path, f"segment {owner!r} holds fewer sections than it says")
        segments.append(Segment(owner, start, size, data[offset : offset + min(held, size)], offset))
        for part in command.sections:
            name = f"{part.segment_name or owner},{part.name}"
            zero_fill = part.type in _ZERO_FILL
            if not zero_fill and part.size and part.offset + part.size > len(data):
                raise BadImage(path, f"truncated: section {name!r} ends beyond the end of the file")
            if part.virtual_address + part.size > 1 << 32:
                raise BadImage(path, f"section {name!r} ends beyond the 32-bit address space")
            sections.append(
                Section(
                    name=name,
                    address=part.virtual_address,
                    size=part.size,
                    held=b"" if zero_fill else data[part.offset : part.offset + part.size],
                    executable=name in _CODE or any(part.has(flag) for flag in _INSTRUCTIONS),
                    writable=bool(int(command.init_protection) & _VM_PROT_WRITE),
                    offset=part.offset,
                )
            )
    if not segments:
        raise BadImage(path, "the Mach-O file has no segments to load")
    return sections, segments


def _entry(path: object, binary: Any, sections: list[Section]) -> int:
    """Return the start address of LC_UNIXTHREAD, seen through a function descriptor; 0 without one."""
    command = binary.thread_command
    if command is None or command.flavor != _PPC_THREAD_STATE:
        return 0
    state = bytes(command.state)
    if len(state) < 4:
        raise BadImage(path, "the thread command holds no registers")
    entry = int(struct.unpack_from(">I", state)[0])
    for section in sections:
        if entry in section and not section.executable:
            offset = entry - section.address
            if offset + 4 <= len(section.data):  # a descriptor: its first word is the code
                code = int(struct.unpack_from(">I", section.data, offset)[0])
                if any(code in s and s.executable for s in sections):
                    return code
    return entry


def _symbols(path: object, data: bytes, binary: Any, sections: list[Section]) -> tuple[Symbol, ...]:
    table = binary.symbol_command
    if table is None:
        return ()
    end = table.symbol_offset + 12 * table.numberof_symbols
    if max(end, table.strings_offset + table.strings_size) > len(data):
        raise BadImage(path, "truncated: the symbol table ends beyond the end of the file")
    symbols: list[Symbol] = []
    for entry in binary.symbols:
        symbols += defined(str(entry.name), entry.raw_type, entry.numberof_sections, entry.value, sections)
    return in_order(symbols)


def defined(name: str, kind: int, ordinal: int, value: int, sections: list[Section]) -> Iterator[Symbol]:
    """Yield the symbol that an entry of a symbol table defines, if it does; ``ordinal`` counts from 1."""
    exported, address = bool(kind & _N_EXT), value & 0xFFFF_FFFF
    if kind & _N_STAB or not name:
        return
    if kind & _N_TYPE == _N_ABS:
        yield Symbol(name, address, 0, "", "absolute", exported)
    elif kind & _N_TYPE == _N_SECT and 0 < ordinal <= len(sections):  # counted from the file's start
        section = sections[ordinal - 1]
        yield Symbol(name, address, 0, section.name, symbol_kind(name, section), exported)


def in_order(symbols: list[Symbol]) -> tuple[Symbol, ...]:
    """Return symbols in the order of `Contents`."""
    return tuple(sorted(symbols, key=lambda s: (not s.exported, *plainness(s.name))))


def symbol_kind(name: str, section: Section) -> str:
    """Return what a symbol of a section is, by the paper's rules (see `functions`)."""
    if not section.executable:
        return "object"
    if name.startswith("_") or (section.name == _INTERRUPTS and name.startswith(".L_")):
        return "function"
    return "label"
