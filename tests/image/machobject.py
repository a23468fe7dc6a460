"""Write a Mach-O object file (MH_OBJECT) from an ELF object file of the cross compiler.

Written from the file format's reference and independently of the reader, for want of a compiler
that makes such files today. Relocations of local places come in both kinds, plain and scattered.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

_VANILLA, _PAIR, _BR14, _BR24, _HI16, _LO16, _HA16, _SECTDIFF = 0, 1, 2, 3, 4, 5, 6, 8
_ADDR32, _ADDR16_LO, _ADDR16_HI, _ADDR16_HA, _REL24, _REL14, _REL32 = 1, 4, 5, 6, 10, 11, 26
_HALVES = {_ADDR16_LO: _LO16, _ADDR16_HI: _HI16, _ADDR16_HA: _HA16}
_NAMES = {".text": ("__TEXT", "__text"), ".rodata": ("__TEXT", "__const"), ".data": ("__DATA", "__data")}
_NAMES[".bss"] = ("__DATA", "__bss")
_NAMES |= {
    ".init_array": ("__DATA", "__mod_init_func"),
    ".fini_array": ("__DATA", "__mod_term_func"),
}


@dataclass
class ElfObject:
    """The parts of an ELF object file: sections by name, symbols, relocations."""

    sections: dict[str, tuple[int, int, bytes]] = field(default_factory=dict)  # index, size, data
    symbols: list[tuple[str, int, int, int, bool]] = field(
        default_factory=list
    )  # name value size shndx global
    relocations: list[tuple[str, int, int, int, int]] = field(
        default_factory=list
    )  # section offset type sym addend


def read_elf_object(elf: bytes) -> ElfObject:
    (table,) = struct.unpack_from(">I", elf, 32)
    count, names = struct.unpack_from(">2H", elf, 48)
    headers = [struct.unpack_from(">10I", elf, table + 40 * n) for n in range(count)]

    def content(n: int) -> bytes:
        return elf[headers[n][4] : headers[n][4] + headers[n][5]]

    def name(table: bytes, at: int) -> str:
        return table[at : table.index(b"\0", at)].decode()

    found = ElfObject()
    titles = [name(content(names), header[0]) for header in headers]
    for n, (_, kind, _, _, _, size, link, info, _, _) in enumerate(headers):
        if titles[n] in _NAMES:
            found.sections[titles[n]] = (n, size, b"" if kind == 8 else content(n))
        elif kind == 2:
            for at, value, extent, what, _, place in struct.iter_unpack(">3I2BH", content(n)):
                found.symbols.append((name(content(link), at), value, extent, place, what >> 4 != 0))
        elif kind == 4 and titles[info] in _NAMES:
            for offset, which, addend in struct.iter_unpack(">2Ii", content(n)):
                found.relocations.append((titles[info], offset, which & 0xFF, which >> 8, addend))
    return found


def addresses(elf: ElfObject) -> dict[str, int]:
    """Return where each section lies in the object file."""
    at, found = 0, {}
    for title, (_, size, _) in elf.sections.items():
        at = -(-at // 16) * 16
        found[title], at = at, at + size
    return found


def build(elf: ElfObject, *, scattered: bool) -> bytes:
    """Return the Mach-O object file."""
    place = addresses(elf)
    ordinals = {title: n for n, title in enumerate(elf.sections, start=1)}
    by_index = {index: title for title, (index, _, _) in elf.sections.items()}
    bodies = {title: bytearray(data) for title, (_, _, data) in elf.sections.items()}
    entries: dict[str, bytes] = dict.fromkeys(elf.sections, b"")
    names = bytearray(b"\0")
    table, number = b"", dict[int, int]()
    for index, (name, value, size, shndx, exported) in enumerate(elf.symbols):
        common = shndx == 0xFFF2
        if not name or (shndx and not common and shndx not in by_index):
            continue
        number[index] = len(number)
        section = 0 if common or not shndx else ordinals[by_index[shndx]]
        kind = (0xE if section else 0) | (1 if exported else 0)
        where = size if common else (value + place[by_index[shndx]] if section else 0)
        table += struct.pack(">I2BHI", len(names), kind, section, 0, where)
        names += name.encode() + b"\0"

    for title, offset, kind, symbol, addend in elf.relocations:
        name, value, _, shndx, exported = elf.symbols[symbol]
        local = shndx in by_index and not (exported and kind != _REL32)
        home = place[by_index[shndx]] + value if shndx in by_index else 0
        target = (home if local else 0) + addend
        at = offset & ~3
        pc = place[title] + at
        ordinal = ordinals[by_index[shndx]] if local else number[symbol]

        def plain(
            what: int, relative: int = 0, *, ordinal: int = ordinal, local: bool = local, at: int = at
        ) -> bytes:
            low = ordinal << 8 | relative << 7 | 2 << 5 | (not local) << 4 | what
            return struct.pack(">2I", at, low)

        def spread(what: int, refers: int, relative: int = 0, *, at: int = at) -> bytes:
            return struct.pack(
                ">2I", 1 << 31 | relative << 30 | 2 << 28 | what << 24 | at, refers & 0xFFFFFFFF
            )

        def one(what: int, relative: int = 0, *, local: bool = local, home: int = home) -> bytes:
            return spread(what, home, relative) if local and scattered else plain(what, relative)

        (word,) = struct.unpack_from(">I", bodies[title], at)
        if kind == _ADDR32:
            word, entry = target & 0xFFFFFFFF, one(_VANILLA)
        elif kind == _REL32:
            word = (target - pc) & 0xFFFFFFFF
            entry = spread(_SECTDIFF, target) + struct.pack(">2I", 1 << 31 | 2 << 28 | _PAIR << 24, pc)
        elif kind in _HALVES:
            high = target + 0x8000 if kind == _ADDR16_HA else target
            half = target & 0xFFFF if kind == _ADDR16_LO else high >> 16 & 0xFFFF
            other = high >> 16 & 0xFFFF if kind == _ADDR16_LO else target & 0xFFFF
            if kind == _ADDR16_LO:
                other = (target >> 16) & 0xFFFF
            word = word & 0xFFFF0000 | half
            pair = (
                struct.pack(">2I", 1 << 31 | 2 << 28 | _PAIR << 24 | other, 0)
                if local and scattered
                else struct.pack(">2I", other, 0xFFFFFF << 8 | 2 << 5 | _PAIR)
            )
            entry = one(_HALVES[kind]) + pair
        else:
            bits = {_REL24: 26, _REL14: 16}[kind]
            mask = (1 << bits) - 4
            word = word & ~mask | (target - pc) & mask
            entry = one(_BR24 if kind == _REL24 else _BR14, 1)
        struct.pack_into(">I", bodies[title], at, word)
        entries[title] += entry

    base = 28 + 56 + 68 * len(bodies) + 24
    blob, heads = b"", b""
    for title, body in bodies.items():
        size = elf.sections[title][1]
        zero = title == ".bss"
        blob += bytes(-len(blob) % 16)
        owner, name = _NAMES[title]
        flags = 1 if zero else (0x8000_0400 if title == ".text" else 0)
        offset = 0 if zero else base + len(blob)
        relocations = base + len(blob) + len(body)
        count = len(entries[title]) // 8
        heads += struct.pack(
            ">16s16s9I",
            name.encode(),
            owner.encode(),
            place[title],
            size,
            offset,
            4,
            relocations if count else 0,
            count,
            flags,
            0,
            0,
        )
        blob += bytes(body) + entries[title]
    extent = max(place[title] + elf.sections[title][1] for title in bodies)
    segment = struct.pack(
        ">2I16s8I", 1, 56 + len(heads), b"", 0, extent, base, len(blob), 7, 7, len(bodies), 0
    )
    where = base + len(blob)
    symtab = struct.pack(">6I", 2, 24, where, len(table) // 12, where + len(table), len(names))
    commands = segment + heads + symtab
    header = struct.pack(">7I", 0xFEED_FACE, 18, 0, 1, 2, len(commands), 0)
    return header + commands + blob + table + bytes(names)
