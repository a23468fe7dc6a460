"""Read a big-endian PowerPC ELF executable through LIEF."""

from __future__ import annotations

from typing import Any

import lief
import numpy as np
import numpy.typing as npt

from kgdbpatch.errors import BadImage
from kgdbpatch.image.contents import Contents, plainness
from kgdbpatch.image.model import Section, Segment, Symbol

__all__ = ["read_elf"]

lief.logging.disable()  # it writes to stderr what `BadImage` says better

_SHT_NOBITS, _SHF_WRITE, _SHF_ALLOC, _SHF_EXECINSTR = 8, 1, 2, 4
_SHN_UNDEF, _SHN_LORESERVE, _SHN_ABS = 0, 0xFF00, 0xFFF1
_STT_NOTYPE, _STT_OBJECT, _STT_FUNC, _STT_SECTION, _STT_FILE, _STT_GNU_IFUNC = 0, 1, 2, 3, 4, 10
_FUNCTIONS = {_STT_FUNC, _STT_GNU_IFUNC}
_STB_LOCAL = 0
_SYMBOL = np.dtype(  # Elf32_Sym
    [("name", ">u4"), ("value", ">u4"), ("size", ">u4"), ("info", "u1"), ("other", "u1"), ("shndx", ">u2")]
)


def read_elf(path: object, data: bytes) -> Contents:
    """Take apart the ELF file ``data``; raise `BadImage` when a part lies beyond its end."""
    binary = lief.ELF.parse(data, _config())
    if binary is None:
        raise BadImage(path, "LIEF cannot read this ELF file (truncated?)")
    header = binary.header
    if len(binary.sections) != header.numberof_sections or len(binary.segments) != header.numberof_segments:
        raise BadImage(path, "truncated or damaged section or program headers")
    segments = _segments(path, data, binary)
    if header.file_type == lief.ELF.Header.FILE_TYPE.DYN and not segments[0].address:
        raise BadImage(path, "the ELF file is a shared library, not an executable")
    by_index = _sections(path, data, binary)
    return Contents(
        entry=int(header.entrypoint) & 0xFFFF_FFFF,
        sections=tuple(s for s in by_index if s is not None),
        segments=segments,
        symbols=_symbols(path, data, binary, by_index),
    )


def _config() -> Any:
    config = lief.ELF.ParserConfig()
    config.parse_relocations = config.parse_dyn_symbols = config.parse_notes = False
    config.parse_symtab_symbols = config.parse_symbol_versions = config.parse_overlay = False
    return config


def _segments(path: object, data: bytes, binary: Any) -> tuple[Segment, ...]:
    segments: list[Segment] = []
    for number, part in enumerate(binary.segments):
        if part.type != lief.ELF.Segment.TYPE.LOAD:
            continue
        start, size, held, offset = (
            part.virtual_address,
            part.virtual_size,
            part.physical_size,
            part.file_offset,
        )
        if offset + held > len(data):
            raise BadImage(path, f"truncated: segment {number} ends beyond the end of the file")
        if start + size > 1 << 32:
            raise BadImage(path, f"segment {number} ends beyond the 32-bit address space")
        segments.append(
            Segment(f"LOAD{number}", start, size, data[offset : offset + min(held, size)], offset)
        )
    if not segments:
        raise BadImage(path, "the ELF file has no segments to load")
    return tuple(segments)


def _sections(path: object, data: bytes, binary: Any) -> list[Section | None]:
    """Return the sections by index, None for those that are not loaded."""
    sections: list[Section | None] = []
    for part in binary.sections:
        flags, offset, size = int(part.flags), part.file_offset, part.size
        no_bits = part.type == lief.ELF.Section.TYPE.NOBITS
        if not no_bits and offset + size > len(data):
            raise BadImage(path, f"truncated: section {part.name!r} ends beyond the end of the file")
        if not flags & _SHF_ALLOC:
            sections.append(None)
            continue
        if part.virtual_address + size > 1 << 32:
            raise BadImage(path, f"section {part.name!r} ends beyond the 32-bit address space")
        sections.append(
            Section(
                name=str(part.name),
                address=part.virtual_address,
                size=size,
                data=b"" if no_bits else data[offset : offset + size],
                executable=bool(flags & _SHF_EXECINSTR),
                writable=bool(flags & _SHF_WRITE),
                offset=offset,
            )
        )
    return sections


def _symbols(path: object, data: bytes, binary: Any, sections: list[Section | None]) -> tuple[Symbol, ...]:
    """Return the symbols of the file's table, in the order of `Contents`.

    LIEF would make an object of each of Linux's 50,000: the table is read as the array it is.
    """
    entries, names = _symbol_table(path, data, binary)
    kinds, bindings = entries["info"] & 15, entries["info"] >> 4
    wanted = (
        (entries["shndx"] != _SHN_UNDEF) & ~np.isin(kinds, (_STT_SECTION, _STT_FILE)) & (entries["name"] > 0)
    )
    ranked: list[tuple[int, Symbol]] = []
    columns = (entries["name"], entries["value"], entries["size"], entries["shndx"], kinds, bindings)
    for at, address, size, index, kind, binding in zip(*(c[wanted].tolist() for c in columns), strict=True):
        name = names[at : names.find(b"\0", at)].decode("utf-8", "replace")
        if not name:
            continue
        exported = binding != _STB_LOCAL
        if index == _SHN_ABS:
            ranked.append((4, Symbol(name, address, size, "", "absolute", exported)))
            continue
        if index >= len(sections) or (section := sections[index]) is None:
            continue
        what = _kind(kind, section)
        rank = 2 * (kind not in _FUNCTIONS) + (not exported)
        ranked.append((rank, Symbol(name, address, size, section.name, what, exported)))
    ranked.sort(key=lambda pair: (pair[0], *plainness(pair[1].name)))
    return tuple(symbol for _, symbol in ranked)


def _symbol_table(path: object, data: bytes, binary: Any) -> tuple[npt.NDArray[np.void], bytes]:
    """Return the entries of the symbol table, none where there is no table, and their strings."""
    table = next((part for part in binary.sections if part.type == lief.ELF.Section.TYPE.SYMTAB), None)
    if table is None:
        return np.zeros(0, _SYMBOL), b""
    if table.link >= len(binary.sections):
        raise BadImage(path, "the symbol table has no strings")
    strings = binary.sections[table.link]
    return (
        np.frombuffer(data, _SYMBOL, table.size // _SYMBOL.itemsize, table.file_offset),
        data[strings.file_offset : strings.file_offset + strings.size] + b"\0",
    )


def _kind(kind: int, section: Section) -> str:
    if not section.executable:
        return "object"
    if kind in _FUNCTIONS:
        return "function"
    return "object" if kind == _STT_OBJECT else "label"
