"""Read a big-endian PowerPC ELF executable; its tables as arrays: Linux has 50,000 symbols."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from kgdbpatch.errors import BadImage
from kgdbpatch.image.contents import Contents, plainest_first
from kgdbpatch.image.elf_header import ElfHeader
from kgdbpatch.image.kallsyms import find_kallsyms
from kgdbpatch.image.model import Section, Segment, Symbol
from kgdbpatch.image.raw import own_symbols
from kgdbpatch.image.symbols import SymbolTable

__all__ = ["read_elf"]

_SHF_WRITE, _SHF_ALLOC, _SHF_EXECINSTR = 1, 2, 4
_PPC_VLE = 0x10000000  # in flags of sections and of segments (e200 ABI supplement)
_SHT_NULL, _SHT_SYMTAB, _SHT_NOBITS, _SHT_SYMTAB_SHNDX = 0, 2, 8, 18
_SHN_UNDEF, _SHN_LORESERVE, _SHN_ABS, _SHN_XINDEX = 0, 0xFF00, 0xFFF1, 0xFFFF
_ABSOLUTE = -1
_PT_LOAD, _PF_X, _PF_W = 1, 1, 2
_STT_OBJECT, _STT_FUNC, _STT_SECTION, _STT_FILE, _STT_GNU_IFUNC = 1, 2, 3, 4, 10
_FUNCTIONS = {_STT_FUNC, _STT_GNU_IFUNC}
_STB_LOCAL = 0
_BANNER = b"Linux version "
_Headers = npt.NDArray[np.void]
_SYMBOL = np.dtype(  # Elf32_Sym
    [("name", ">u4"), ("value", ">u4"), ("size", ">u4"), ("info", "u1"), ("other", "u1"), ("shndx", ">u2")]
)


def read_elf(path: object, data: bytes) -> Contents:
    """Take apart the ELF file ``data``; raise `BadImage` where it is none that we can patch.

    Without sections of code the segments serve; a Linux without a symbol table has those of its own.
    """
    header = ElfHeader.read(path, data)
    programs, sections = header.program_headers(data), header.section_headers(data)
    if any((flags & _PPC_VLE).any() for flags in (programs["flags"], sections["flags"])):
        raise BadImage(path, "VLE code is not supported")
    loaded = _segments(path, data, programs)
    if header.is_shared and not loaded[0].address:
        raise BadImage(path, "the ELF file is a shared library, not an executable")
    by_index = _sections(path, data, sections, header.names)
    found = tuple(s for s in by_index if s is not None)
    if not any(s.executable for s in found):
        found, by_index = _from_segments(loaded, programs), []
    return Contents(
        entry=header.entry,
        sections=found,
        segments=loaded,
        symbols=_symbols(path, data, sections, by_index) or _own_symbols(loaded, found),
    )


def _own_symbols(segments: tuple[Segment, ...], sections: tuple[Section, ...]) -> tuple[Symbol, ...]:
    for segment in segments:
        found = find_kallsyms(segment.data) if _BANNER in segment.data else None
        if found is not None:
            return own_symbols(found, sections)
    return ()


def _segments(path: object, data: bytes, headers: _Headers) -> tuple[Segment, ...]:
    segments: list[Segment] = []
    for number, (kind, offset, start, physical, held, size, _, _) in enumerate(headers.tolist()):
        if kind != _PT_LOAD:
            continue
        if held and offset + held > len(data):
            raise BadImage(path, f"truncated: segment {number} ends beyond the end of the file")
        if start + size > 1 << 32:
            raise BadImage(path, f"segment {number} ends beyond the 32-bit address space")
        segments.append(
            Segment(f"LOAD{number}", start, size, data[offset : offset + min(held, size)], offset, physical)
        )
    if not segments:
        raise BadImage(path, "the ELF file has no segments to load")
    return tuple(segments)


def _from_segments(segments: tuple[Segment, ...], headers: _Headers) -> tuple[Section, ...]:
    flags = headers["flags"][headers["type"] == _PT_LOAD].tolist()
    return tuple(
        Section(s.name, s.address, s.size, s.data, bool(f & _PF_X), bool(f & _PF_W), s.offset)
        for s, f in zip(segments, flags, strict=True)
    )


def _sections(path: object, data: bytes, headers: _Headers, names: int) -> list[Section | None]:
    """Return the sections by index, None for those that are not loaded."""
    strings = _content(data, headers[names]) if names < len(headers) else b"\0"
    sections: list[Section | None] = []
    for title, kind, flags, address, offset, size, *_ in headers.tolist():
        name = strings[title : strings.find(b"\0", title)].decode("utf-8", "replace")
        no_bits = kind in (_SHT_NULL, _SHT_NOBITS)
        if not no_bits and size and offset + size > len(data):
            raise BadImage(path, f"truncated: section {name!r} ends beyond the end of the file")
        if kind == _SHT_NULL or not flags & _SHF_ALLOC:
            sections.append(None)
            continue
        if address + size > 1 << 32:
            raise BadImage(path, f"section {name!r} ends beyond the 32-bit address space")
        held = b"" if no_bits else data[offset : offset + size]
        executable, writable = bool(flags & _SHF_EXECINSTR), bool(flags & _SHF_WRITE)
        sections.append(Section(name, address, size, held, executable, writable, offset))
    return sections


def _content(data: bytes, header: np.void) -> bytes:
    offset = int(header["offset"])
    return data[offset : offset + int(header["size"])] + b"\0"


def _symbols(path: object, data: bytes, headers: _Headers, sections: list[Section | None]) -> SymbolTable:
    """Return the symbols of the file's table, in the order of `Contents`."""
    entries, places, names = _symbol_table(path, data, headers)
    kinds, exported = entries["info"] & 15, entries["info"] >> 4 != _STB_LOCAL
    wanted = (places != _SHN_UNDEF) & ~np.isin(kinds, (_STT_SECTION, _STT_FILE)) & (entries["name"] > 0)
    loaded = [number for number, section in enumerate(sections) if section is not None]
    (rows,) = np.nonzero(wanted & np.isin(places, [_ABSOLUTE, *loaded]))
    texts = _texts(names, entries["name"][rows])
    typed = np.isin(kinds[rows], [*_FUNCTIONS])
    rank = np.where(places[rows] == _ABSOLUTE, 4, 2 * ~typed + ~exported[rows])
    order = [at for at in plainest_first(texts, rank) if texts[at]]
    rows = rows[order]
    kinds_in = {_ABSOLUTE: ("", ["absolute"] * 16)}
    kinds_in |= {at: (section.name, _kinds(section)) for at, section in enumerate(sections) if section}
    indices = places[rows].tolist()
    return SymbolTable.of_columns(
        [texts[at] for at in order],
        entries["value"][rows].tolist(),
        entries["size"][rows].tolist(),
        [kinds_in[index][0] for index in indices],
        [kinds_in[index][1][kind] for index, kind in zip(indices, kinds[rows].tolist(), strict=True)],
        exported[rows].tolist(),
    )


def _texts(strings: bytes, starts: npt.NDArray[np.uint32]) -> list[str]:
    """Return the strings that begin at places of a string table, which a NUL ends."""
    ends = np.flatnonzero(np.frombuffer(strings, np.uint8) == 0)
    behind = ends[np.minimum(np.searchsorted(ends, starts), len(ends) - 1)]
    places = list(zip(starts.tolist(), behind.tolist(), strict=True))
    if strings.isascii():
        plain = strings.decode("ascii")
        return [plain[start:end] for start, end in places]
    return [strings[start:end].decode("utf-8", "replace") for start, end in places]


def _symbol_table(
    path: object, data: bytes, headers: _Headers
) -> tuple[npt.NDArray[np.void], npt.NDArray[np.int64], bytes]:
    """Return the symbols' entries, their sections (`_ABSOLUTE`; 0: not defined here), strings."""
    (tables,) = np.nonzero(headers["type"] == _SHT_SYMTAB)
    if not len(tables):
        return np.zeros(0, _SYMBOL), np.zeros(0, np.int64), b""
    table = headers[tables[0]]
    if table["link"] >= len(headers):
        raise BadImage(path, "the symbol table has no strings")
    count = int(table["size"]) // _SYMBOL.itemsize
    entries = np.frombuffer(data, _SYMBOL, count, int(table["offset"]) if count else 0)
    places = entries["shndx"].astype(np.int64)
    reserved, absolute, extended = places >= _SHN_LORESERVE, places == _SHN_ABS, places == _SHN_XINDEX
    places[reserved], places[absolute] = _SHN_UNDEF, _ABSOLUTE
    (more,) = np.nonzero((headers["type"] == _SHT_SYMTAB_SHNDX) & (headers["link"] == tables[0]))
    if extended.any() and len(more):
        size, offset = int(headers[more[0]]["size"]), int(headers[more[0]]["offset"])
        if size < 4 * count:
            raise BadImage(path, "the table of extended section indices is shorter than the symbol table")
        places[extended] = np.frombuffer(data, ">u4", count, offset)[extended]
    return entries, places, _content(data, headers[table["link"]])


def _kinds(section: Section) -> list[str]:
    """Return what a symbol of each type is in a section."""
    kinds = ["label" if section.executable else "object"] * 16
    if section.executable:
        kinds[_STT_OBJECT] = "object"
        for kind in _FUNCTIONS:
            kinds[kind] = "function"
    return kinds
