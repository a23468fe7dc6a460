"""The sections of an ELF file that tell of types: unpacked, and of an object file relocated."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from elftools.common.exceptions import ELFError
from elftools.construct import ConstructError
from elftools.elf.elffile import ELFFile
from elftools.elf.relocation import RelocationSection
from elftools.elf.sections import SymbolTableSection

from kgdbpatch.errors import BadImage

__all__ = ["BTF", "DWARF", "TypeSections", "named_sections", "read_sections", "sections_of"]

DWARF, BTF = ".debug_info", ".BTF"
_MORE = (".debug_abbrev", ".debug_str", ".debug_line_str", ".debug_str_offsets")
_MOST = 2 << 30  # bytes of one section, unpacked: more is no kernel
_COMPRESSED = 0x800  # SHF_COMPRESSED
_ZLIB = 1  # ELFCOMPRESS_ZLIB
_NOBITS = "SHT_NOBITS"
_R_PPC_ADDR32, _EM_PPC = 1, "EM_PPC"
_DAMAGED = (ELFError, ConstructError, ValueError, KeyError, IndexError, OSError, OverflowError, MemoryError)


@dataclass(frozen=True)
class TypeSections:
    """What a file holds of itself: ``data`` by the section's name; the byte order of all numbers in it."""

    path: Path
    little_endian: bool
    data: dict[str, bytes]

    def get(self, name: str) -> bytes:
        """Return a section's bytes; none where there is no such section."""
        return self.data.get(name, b"")


def named_sections(path: Path) -> frozenset[str]:
    """Return which of `DWARF` and `BTF` an ELF file has; neither where it is no ELF file."""
    try:
        with path.open("rb") as file:
            elf = ELFFile(file)
            kept = {_plain(s.name) for s in elf.iter_sections() if s["sh_type"] != _NOBITS and s["sh_size"]}
    except OSError as error:
        raise BadImage(path, (error.strerror or str(error)).lower()) from error
    except _DAMAGED:
        return frozenset()
    return frozenset(kept & {DWARF, BTF})


def read_sections(path: Path) -> TypeSections:
    """Read what DWARF needs, or else BTF; raise `BadImage` for a damaged file, or one with neither."""
    try:
        with path.open("rb") as file:
            return sections_of(path, file)
    except OSError as error:
        raise BadImage(path, (error.strerror or str(error)).lower()) from error


def sections_of(path: Path, file: BinaryIO) -> TypeSections:
    """As `read_sections`, of a file that is open, or of its bytes; ``path`` is what it is called."""
    try:
        elf = ELFFile(file)
        if elf.elfclass != 32:
            raise BadImage(path, "not a 32-bit ELF file")
        there: dict[str, list[tuple[int, Any]]] = {}
        for number, section in enumerate(elf.iter_sections()):
            if section["sh_type"] != _NOBITS and section["sh_size"]:
                # an object file has a part of .debug_info for each group
                there.setdefault(_plain(section.name), []).append((number, section))
        first = next((name for name in (DWARF, BTF) if name in there), None)
        if first is None:
            raise BadImage(path, "no debug information in it")
        names = (first, *_MORE) if first == DWARF else (first,)
        data = {
            name: b"".join(_content(path, elf, number, section) for number, section in there[name])
            for name in names
            if name in there
        }
        return TypeSections(path, elf.little_endian, data)
    except _DAMAGED as error:
        if isinstance(error, BadImage):
            raise
        raise BadImage(path, f"damaged ELF file: {str(error) or type(error).__name__}") from error


def _plain(name: str) -> str:
    return f".{name[2:]}" if name.startswith(".zdebug_") else name


def _content(path: Path, elf: Any, number: int, section: Any) -> bytes:
    """Return what a section holds, unpacked and relocated."""
    stream = elf.stream
    stream.seek(section["sh_offset"])
    data: bytes = stream.read(section["sh_size"])
    if len(data) != section["sh_size"]:
        raise BadImage(path, f"truncated: section {section.name} ends beyond the end of the file")
    order = "little" if elf.little_endian else "big"
    if section.name.startswith(".zdebug_") and data.startswith(b"ZLIB"):
        return _unpacked(path, section.name, data[12:], int.from_bytes(data[4:12], "big"))
    if section["sh_flags"] & _COMPRESSED:
        kind, size = (int.from_bytes(data[at : at + 4], order) for at in (0, 4))  # type: ignore[arg-type]
        if kind != _ZLIB:
            raise BadImage(path, f"{section.name} is compressed otherwise than by zlib: objcopy unpacks it")
        data = _unpacked(path, section.name, data[12:], size)
    return _relocated(path, elf, number, section, data) if elf["e_type"] == "ET_REL" else data


def _unpacked(path: Path, name: str, data: bytes, size: int) -> bytes:
    if size > _MOST:
        raise BadImage(path, f"{name} is said to unpack to more than {_MOST >> 30} GiB")
    stream = zlib.decompressobj()
    try:
        found = stream.decompress(data, size) if size else b""
    except zlib.error as error:
        raise BadImage(path, f"damaged data in {name}: {error}") from error
    if len(found) != size:
        raise BadImage(path, f"truncated data in {name}")
    return found


def _relocated(path: Path, elf: Any, number: int, section: Any, data: bytes) -> bytes:
    """Return the section of an object file with the places of strings and abbreviations filled in."""
    for table in elf.iter_sections():
        if not isinstance(table, RelocationSection) or table["sh_info"] != number or not table.is_RELA():
            continue
        if elf["e_machine"] != _EM_PPC:
            raise BadImage(path, "an object file of another machine than 32-bit PowerPC")
        symbols = elf.get_section(table["sh_link"])
        if not isinstance(symbols, SymbolTableSection):
            raise BadImage(path, f"the relocations of {section.name} have no symbols")
        order = "<" if elf.little_endian else ">"
        rows = np.frombuffer(
            table.data(), np.dtype([("at", f"{order}u4"), ("info", f"{order}u4"), ("add", f"{order}i4")])
        )
        entry = [("name", f"{order}u4"), ("value", f"{order}u4"), ("rest", f"{order}u8")]
        values = np.frombuffer(symbols.data(), np.dtype(entry))["value"].astype(np.int64)
        rows = rows[(rows["info"] & 0xFF) == _R_PPC_ADDR32]
        places, which = rows["at"].astype(np.int64), rows["info"] >> 8
        if len(rows) and (places.max() + 4 > len(data) or which.max() >= len(values)):
            raise BadImage(path, f"a relocation of {section.name} lies beyond its end")
        filled = np.frombuffer(data, np.uint8).copy()
        words = ((values[which] + rows["add"]) & 0xFFFFFFFF).astype(f"{order}u4").view(np.uint8)
        filled[places[:, None] + np.arange(4)] = words.reshape(-1, 4)
        data = filled.tobytes()
    return data
