"""Rewrite a linked ELF file as other tools lay it out: with counts in section 0, without sections, …"""

from __future__ import annotations

import struct

_SHDR, _PHDR = 40, 32
NO_BITS, SYMTAB, SYMTAB_SHNDX = 8, 2, 18


def headers(elf: bytes | bytearray) -> list[list[int]]:
    """Return the section headers."""
    (at,) = struct.unpack_from(">I", elf, 32)
    (count,) = struct.unpack_from(">H", elf, 48)
    return [list(struct.unpack_from(">10I", elf, at + _SHDR * n)) for n in range(count)]


def with_sections(elf: bytes, sections: list[list[int]], *, extended: bool, names: int) -> bytes:
    """Return the file with other section headers at its end; ``extended`` puts the counts into number 0."""
    out = bytearray(elf)
    out += bytes(-len(out) % 4)
    struct.pack_into(">I", out, 32, len(out))
    if extended:
        sections = [[*sections[0][:5], len(sections), names, *sections[0][7:]], *sections[1:]]
    struct.pack_into(">3H", out, 46, _SHDR, *((0, 0xFFFF) if extended else (len(sections), names)))
    return bytes(out) + b"".join(struct.pack(">10I", *section) for section in sections)


def extended_numbering(elf: bytes) -> bytes:
    """Return the file with all counts in section 0, that of its segments too."""
    (names,) = struct.unpack_from(">H", elf, 50)
    (segments,) = struct.unpack_from(">H", elf, 44)
    sections = headers(elf)
    sections[0][7] = segments
    out = bytearray(with_sections(elf, sections, extended=True, names=names))
    struct.pack_into(">H", out, 44, 0xFFFF)
    return bytes(out)


def many_sections(elf: bytes, more: int) -> bytes:
    """Return the file with ``more`` empty sections before its own, and symbols with extended indices."""
    (names,) = struct.unpack_from(">H", elf, 50)
    first, *rest = headers(elf)
    (table,) = (n for n, header in enumerate(rest) if header[1] == SYMTAB)
    at, size = rest[table][4], rest[table][5]
    out = bytearray(elf)
    indices = []
    for place in range(at, at + size, 16):
        (index,) = struct.unpack_from(">H", out, place + 14)
        named = 0 < index < 0xFF00
        indices.append(index + more if named else 0)
        if named:
            struct.pack_into(">H", out, place + 14, 0xFFFF)
    extra = [0, SYMTAB_SHNDX, 0, 0, len(out), 4 * len(indices), table + 1 + more, 0, 4, 4]
    out += struct.pack(f">{len(indices)}I", *indices)
    for header in rest:
        header[6] += more if header[6] else 0
    empty = [[0, 1, 0, 0, 0, 0, 0, 0, 1, 0]] * more
    return with_sections(bytes(out), [first, *empty, *rest, extra], extended=True, names=names + more)


def without_sections(elf: bytes) -> bytes:
    """Return the file without section headers, cut off behind its last segment."""
    (at,) = struct.unpack_from(">I", elf, 28)
    (count,) = struct.unpack_from(">H", elf, 44)
    ends = []
    for n in range(count):
        _, offset, _, _, size = struct.unpack_from(">5I", elf, at + _PHDR * n)
        ends.append(offset + size)
    out = bytearray(elf[: max(ends)])
    struct.pack_into(">I", out, 32, 0)
    struct.pack_into(">3H", out, 46, 0, 0, 0)
    return bytes(out)


def with_empty_segment(elf: bytes, address: int, size: int) -> bytes:
    """Return the file with one more segment that is nowhere in it and "begins" far behind its end."""
    (at,) = struct.unpack_from(">I", elf, 28)
    (count,) = struct.unpack_from(">H", elf, 44)
    out = bytearray(elf)
    struct.pack_into(">I", out, 28, len(out))
    struct.pack_into(">H", out, 44, count + 1)
    out += elf[at : at + _PHDR * count]
    out += struct.pack(">8I", 1, 0x7FFF_0000, address, address, 0, size, 6, 4)
    return bytes(out)
