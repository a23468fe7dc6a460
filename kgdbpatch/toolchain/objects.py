"""What an object file says: its names, what it calls; an object less its calls of names that nobody has."""

from __future__ import annotations

import io
from collections.abc import Iterator, Set
from typing import Any, NamedTuple

import numpy as np
from elftools.elf.constants import SH_FLAGS
from elftools.elf.elffile import ELFFile
from elftools.elf.relocation import RelocationSection

from kgdbpatch.isa import encode
from kgdbpatch.isa.decode import Kind, decode

__all__ = [
    "Name",
    "called",
    "entries",
    "is_indirect",
    "names",
    "undefined",
    "with_debug_relocated",
    "without_calls",
]

_RELA = np.dtype([("offset", ">u4"), ("info", ">u4"), ("addend", ">i4")])
_SYMBOL = np.dtype(
    [("name", ">u4"), ("value", ">u4"), ("size", ">u4"), ("info", "u1"), ("other", "u1"), ("section", ">u2")]
)
_ADDR32 = 1
_REL24, _PLTREL24, _LOCAL24 = 10, 18, 23  # System V ABI, PowerPC supplement, 4-18


class Name(NamedTuple):
    """A symbol of an object: whether it is code of the object's, and how others see it."""

    name: str
    defined: bool
    function: bool
    exported: bool
    weak: bool


def names(file: ELFFile) -> Iterator[Name]:
    """Yield the named symbols of an object, less its sections' and files' own."""
    table: Any = file.get_section_by_name(".symtab")
    for symbol in table.iter_symbols() if table is not None else ():
        kind, bind, index = symbol["st_info"]["type"], symbol["st_info"]["bind"], symbol["st_shndx"]
        if not symbol.name or kind in ("STT_SECTION", "STT_FILE"):
            continue
        code = isinstance(index, int) and bool(file.get_section(index)["sh_flags"] & SH_FLAGS.SHF_EXECINSTR)
        yield Name(symbol.name, index != "SHN_UNDEF", code, bind != "STB_LOCAL", bind == "STB_WEAK")


def is_indirect(file: ELFFile) -> bool:
    """Tell whether the code of an object goes anywhere through CTR or LR, otherwise than to return."""
    sections = file.iter_sections()
    code = b"".join(s.data() for s in sections if s["sh_flags"] & SH_FLAGS.SHF_EXECINSTR)
    found = map(decode, np.frombuffer(code, ">u4", len(code) // 4).tolist())
    return any(i.kind is Kind.INDIRECT or (i.kind is Kind.CALL and i.target is None) for i in found)


def called(file: ELFFile) -> frozenset[str]:
    """Return the names that branches of an object lead to."""
    calls = (_REL24, _PLTREL24, _LOCAL24)
    return frozenset(
        symbol.name for _, _, entry, symbol in entries(file, loaded=True) if entry["r_info_type"] in calls
    )


def entries(file: ELFFile, *, loaded: bool = False) -> Iterator[tuple[RelocationSection, int, Any, Any]]:
    """Yield the relocations of a file: the table, the number in it, the entry, the symbol.

    ``loaded``: of what is loaded alone, not of debug information, which has many.
    """
    for section in file.iter_sections():
        if isinstance(section, RelocationSection):
            if loaded and not file.get_section(section["sh_info"])["sh_flags"] & SH_FLAGS.SHF_ALLOC:
                continue
            symbols: Any = file.get_section(section["sh_link"])
            for number, entry in enumerate(section.iter_relocations()):
                yield section, number, entry, symbols.get_symbol(entry["r_info_sym"])


def undefined(data: bytes) -> list[str]:
    """Return the names that an object file leaves undefined, sorted."""
    return sorted(name.name for name in names(ELFFile(io.BytesIO(data))) if not name.defined)


def without_calls(data: bytes, names: Set[str]) -> bytes:
    """Return an object file in which nothing calls or jumps to any of ``names``.

    Code asks whether a weak name is 0 before it calls; ld encodes the call all the same, to anywhere. As ld
    does for other processors, it becomes a nop, and a jump in place of call and return the return.
    """
    if not names:
        return data
    out, file = bytearray(data), ELFFile(io.BytesIO(data))
    for section, number, entry, symbol in entries(file, loaded=True):
        if entry["r_info_type"] in (_REL24, _PLTREL24) and symbol.name in names:
            at = file.get_section(section["sh_info"])["sh_offset"] + entry["r_offset"]
            word = encode.nop() if out[at + 3] & 1 else encode.blr()
            out[at : at + 4] = word.to_bytes(4, "big")
            out[section["sh_offset"] + number * section["sh_entsize"] + 7] = 0  # R_PPC_NONE
    return bytes(out)


def with_debug_relocated(data: bytes) -> bytes:
    """Return an object with the relocations of its debug sections carried out (all are ``R_PPC_ADDR32``)."""
    file, out = ELFFile(io.BytesIO(data)), bytearray(data)
    for section in file.iter_sections():
        if not (isinstance(section, RelocationSection) and section.name.startswith(".rela.debug_")):
            continue
        rows = np.frombuffer(section.data(), _RELA)
        rows = rows[rows["info"] & 0xFF == _ADDR32]
        symbols = np.frombuffer(file.get_section(section["sh_link"]).data(), _SYMBOL)
        values = symbols["value"][rows["info"] >> 8].astype(np.int64) + rows["addend"]
        start = file.get_section(section["sh_info"])["sh_offset"]
        view = np.frombuffer(out, np.uint8)
        places = start + rows["offset"].astype(np.int64)
        for byte in range(4):
            view[places + byte] = values >> 8 * (3 - byte) & 0xFF
    return bytes(out)
