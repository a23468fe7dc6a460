"""Read a big-endian PowerPC ELF executable through pyelftools.

LIEF, which reads Mach-O here, takes 0.36 s to import: half of what objdump needs to print all of Linux.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import numpy.typing as npt
from elftools.common.exceptions import ELFError
from elftools.common.utils import struct_parse
from elftools.elf.elffile import ELFFile

from kgdbpatch.errors import BadImage
from kgdbpatch.image.contents import Contents, plainness
from kgdbpatch.image.model import Section, Segment, Symbol

__all__ = ["read_elf"]

_SHF_WRITE, _SHF_ALLOC, _SHF_EXECINSTR = 1, 2, 4
_PPC_VLE = 0x10000000  # in flags of sections and of segments (e200 ABI supplement)
_SHN_UNDEF, _SHN_ABS = 0, 0xFFF1
_STT_OBJECT, _STT_FUNC, _STT_SECTION, _STT_FILE, _STT_GNU_IFUNC = 1, 2, 3, 4, 10
_FUNCTIONS = {_STT_FUNC, _STT_GNU_IFUNC}
_STB_LOCAL = 0
_SYMBOL = np.dtype(  # Elf32_Sym
    [("name", ">u4"), ("value", ">u4"), ("size", ">u4"), ("info", "u1"), ("other", "u1"), ("shndx", ">u2")]
)


def read_elf(path: object, data: bytes) -> Contents:
    """Take apart the ELF file ``data``; raise `BadImage` where it is none that we can patch."""
    try:
        elf = ELFFile(io.BytesIO(data))
        segments = _headers(elf, elf.structs.Elf_Phdr, "e_phoff", "e_phentsize", elf["e_phnum"])
        sections = _headers(elf, elf.structs.Elf_Shdr, "e_shoff", "e_shentsize", elf["e_shnum"])
    except ELFError as error:
        raise BadImage(path, "truncated or damaged section or program headers") from error
    if any(
        part[flags] & _PPC_VLE
        for parts, flags in ((segments, "p_flags"), (sections, "sh_flags"))
        for part in parts
    ):
        raise BadImage(path, "VLE code is not supported")
    loaded = _segments(path, data, segments)
    if elf["e_type"] == "ET_DYN" and not loaded[0].address:
        raise BadImage(path, "the ELF file is a shared library, not an executable")
    by_index = _sections(path, data, sections, elf["e_shstrndx"])
    return Contents(
        entry=elf["e_entry"],
        sections=tuple(s for s in by_index if s is not None),
        segments=loaded,
        symbols=_symbols(path, data, sections, by_index),
    )


def _headers(elf: Any, kind: Any, start: str, size: str, count: int) -> list[Any]:
    return [struct_parse(kind, elf.stream, elf[start] + number * elf[size]) for number in range(count)]


def _segments(path: object, data: bytes, headers: list[Any]) -> tuple[Segment, ...]:
    segments: list[Segment] = []
    for number, part in enumerate(headers):
        if part["p_type"] != "PT_LOAD":
            continue
        start, size = part["p_vaddr"], part["p_memsz"]
        held, offset = part["p_filesz"], part["p_offset"]
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


def _sections(path: object, data: bytes, headers: list[Any], names: int) -> list[Section | None]:
    """Return the sections by index, None for those that are not loaded."""
    strings = _content(data, headers[names]) if names < len(headers) else b""
    sections: list[Section | None] = []
    for part in headers:
        name = _string(strings, part["sh_name"])
        flags, offset, size = part["sh_flags"], part["sh_offset"], part["sh_size"]
        no_bits = part["sh_type"] in ("SHT_NOBITS", "SHT_NULL")
        if not no_bits and offset + size > len(data):
            raise BadImage(path, f"truncated: section {name!r} ends beyond the end of the file")
        if not flags & _SHF_ALLOC:
            sections.append(None)
            continue
        if part["sh_addr"] + size > 1 << 32:
            raise BadImage(path, f"section {name!r} ends beyond the 32-bit address space")
        sections.append(
            Section(
                name=name,
                address=part["sh_addr"],
                size=size,
                data=b"" if no_bits else data[offset : offset + size],
                executable=bool(flags & _SHF_EXECINSTR),
                writable=bool(flags & _SHF_WRITE),
                offset=offset,
            )
        )
    return sections


def _content(data: bytes, header: Any) -> bytes:
    return data[header["sh_offset"] : header["sh_offset"] + header["sh_size"]] + b"\0"


def _string(strings: bytes, at: int) -> str:
    return strings[at : strings.find(b"\0", at)].decode("utf-8", "replace")


def _symbols(
    path: object, data: bytes, headers: list[Any], sections: list[Section | None]
) -> tuple[Symbol, ...]:
    """Return the symbols of the file's table, in the order of `Contents`.

    Linux has 50,000: the table is read as the array that it is.
    """
    entries, names = _symbol_table(path, data, headers)
    kinds, bindings = entries["info"] & 15, entries["info"] >> 4
    wanted = (
        (entries["shndx"] != _SHN_UNDEF) & ~np.isin(kinds, (_STT_SECTION, _STT_FILE)) & (entries["name"] > 0)
    )
    ranked: list[tuple[int, Symbol]] = []
    columns = (entries["name"], entries["value"], entries["size"], entries["shndx"], kinds, bindings)
    for at, address, size, index, kind, binding in zip(*(c[wanted].tolist() for c in columns), strict=True):
        name = _string(names, at)
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


def _symbol_table(path: object, data: bytes, headers: list[Any]) -> tuple[npt.NDArray[np.void], bytes]:
    """Return the entries of the symbol table, none where there is no table, and their strings."""
    table = next((header for header in headers if header["sh_type"] == "SHT_SYMTAB"), None)
    if table is None:
        return np.zeros(0, _SYMBOL), b""
    if table["sh_link"] >= len(headers):
        raise BadImage(path, "the symbol table has no strings")
    entries = np.frombuffer(data, _SYMBOL, table["sh_size"] // _SYMBOL.itemsize, table["sh_offset"])
    return entries, _content(data, headers[table["sh_link"]])


def _kind(kind: int, section: Section) -> str:
    if not section.executable:
        return "object"
    if kind in _FUNCTIONS:
        return "function"
    return "object" if kind == _STT_OBJECT else "label"
