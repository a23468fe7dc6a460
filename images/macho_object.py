"""Turn a relocatable big-endian PowerPC ELF object into a Mach-O object (MH_OBJECT).

For kernel extensions: one unnamed segment with all sections, from address 0 on; symbols; relocations
as Apple's assembler writes them. A value in place is what it would be at address 0; an external
relocation adds its symbol's value, a local one the distance by which the object was moved. Relative
branches within the object need none.

Format: "Mac OS X ABI Mach-O File Format Reference".
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from macho import Elf, Section, read_elf, symbol_entry

__all__ = ["convert_object"]

_MH_OBJECT = 1
_VANILLA, _PAIR, _HI16, _LO16, _HA16 = 0, 1, 4, 5, 6
_R_ADDR32, _R_LO, _R_HI, _R_HA, _R_REL24, _R_REL32 = 1, 4, 5, 6, 10, 26
_N_UNDF, _N_SECT, _N_EXT = 0, 14, 1


@dataclass
class _Placed:
    section: Section
    address: int
    data: bytearray
    relocations: list[tuple[int, int]] = field(default_factory=list)


def _place(sections: dict[int, Section]) -> dict[int, _Placed]:
    placed, at = {}, 0
    for index, section in sections.items():
        at = -(-at // max(section.align, 4)) * max(section.align, 4)
        placed[index] = _Placed(section, at, bytearray(section.data or b""))
        at += section.size
    return placed


def _info(symbol: int, length: int, external: bool, kind: int) -> int:
    return symbol << 8 | length << 5 | external << 4 | kind


def _relocate(place: _Placed, offset: int, kind: int, value: int, symbol: int | None, ordinal: int) -> None:
    """Put ``value`` (at address 0) in place and note what a loader must do."""
    external = symbol is not None
    number = symbol if symbol is not None else ordinal
    word = struct.unpack_from(">I", place.data, offset & ~3)[0]
    if kind == _R_REL24:
        if external:
            raise ValueError("a relative branch leaves the object: compile with -mlongcall")
        word |= (value - place.address - offset) & 0x03FF_FFFC
        struct.pack_into(">I", place.data, offset, word)
        return
    if kind == _R_ADDR32:
        struct.pack_into(">I", place.data, offset, value & 0xFFFF_FFFF)
        place.relocations.append((offset, _info(number, 2, external, _VANILLA)))
        return
    low, high = value & 0xFFFF, value >> 16 & 0xFFFF
    ways = {_R_LO: (low, high, _LO16), _R_HI: (high, low, _HI16), _R_HA: (high + (low >> 15), low, _HA16)}
    if kind not in ways:
        raise ValueError(f"ELF relocation type {kind} is not supported")
    half, other, machine = ways[kind]
    struct.pack_into(">I", place.data, offset & ~3, word & 0xFFFF_0000 | half & 0xFFFF)
    place.relocations.append((offset & ~3, _info(number, 2, external, machine)))
    place.relocations.append((other, _info(0xFFFFFF, 2, False, _PAIR)))


def _symbols(
    elf: Elf, placed: dict[int, _Placed], ordinals: dict[int, int]
) -> tuple[bytes, bytes, dict[int, int]]:
    """Return nlist entries, strings, and the Mach-O number of each undefined ELF symbol."""
    entries, strings, undefined = bytearray(), bytearray(4), {}
    for index, symbol in enumerate(elf.symbols):
        if not symbol.name or (symbol.section and symbol.section not in placed):
            continue
        kind = (_N_SECT if symbol.section else _N_UNDF) | (_N_EXT if symbol.external else 0)
        value = placed[symbol.section].address + symbol.value if symbol.section else 0
        if not symbol.section:
            undefined[index] = len(entries) // 12
        ordinal = ordinals.get(symbol.section or 0, 0)
        entries += symbol_entry(len(strings), kind, ordinal, 0, value)
        strings += symbol.name.encode() + b"\0"
    return bytes(entries), bytes(strings + bytes(-len(strings) % 4)), undefined


def _apply(elf: Elf, placed: dict[int, _Placed], ordinals: dict[int, int], undefined: dict[int, int]) -> None:
    for target, offset, info, addend in elf.relocations:
        if target not in placed:
            continue
        symbol = elf.symbols[info >> 8]
        if symbol.section:
            value = placed[symbol.section].address + symbol.value + addend
            _relocate(placed[target], offset, info & 0xFF, value, None, ordinals[symbol.section])
        else:
            _relocate(placed[target], offset, info & 0xFF, addend, undefined[info >> 8], 0)


def convert_object(data: bytes) -> bytes:
    """Return the Mach-O object made of a relocatable ELF file; raise `ValueError` for what it cannot hold."""
    elf = read_elf(data)
    placed = _place(elf.sections)
    ordinals = {index: ordinal for ordinal, index in enumerate(placed, start=1)}
    entries, strings, undefined = _symbols(elf, placed, ordinals)
    _apply(elf, placed, ordinals, undefined)

    parts = list(placed.values())
    commands = 56 + 68 * len(parts) + 24
    start = 28 + commands
    size = max((part.address + part.section.size for part in parts), default=0)
    held = max((part.address + len(part.data) for part in parts if part.data), default=0)
    body = bytearray(held)
    relocations, headers = bytearray(), b""
    for part in parts:
        body[part.address : part.address + len(part.data)] = part.data
        at = start + held + len(relocations) if part.relocations else 0
        offset = start + part.address if part.data else 0
        headers += part.section.command(part.address, offset, at, len(part.relocations))
        relocations += b"".join(struct.pack(">2I", *entry) for entry in part.relocations)
    table = start + held + len(relocations)
    segment = struct.pack(">2I16s8I", 1, 56 + 68 * len(parts), b"", 0, size, start, held, 7, 7, len(parts), 0)
    symtab = struct.pack(">6I", 2, 24, table, len(entries) // 12, table + len(entries), len(strings))
    header = struct.pack(">7I", 0xFEEDFACE, 18, 0, _MH_OBJECT, 2, commands, 0)
    return b"".join([header, segment, headers, symtab, body, relocations, entries, strings])
