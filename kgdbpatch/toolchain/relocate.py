"""Move linked code: System V ABI, PowerPC processor supplement, chapter 4, "Relocation"."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from elftools.elf.constants import SH_FLAGS
from elftools.elf.elffile import ELFFile

from kgdbpatch.toolchain.objects import entries

__all__ = ["Relocation", "moved", "relocations", "taken"]

_NONE, _ADDR32, _REL24, _UADDR32, _REL32 = 0, 1, 10, 24, 26
# R_PPC_ADDR16, _LO, _HI, _HA, R_PPC_REL16 and so on: what is added before the half is taken
_HALVES = {3: 0, 4: 0, 5: 0, 6: 0x8000, 249: 0, 250: 0, 251: 0, 252: 0x8000}
_UPPER, _WHOLE, _RELATIVE = {5, 6, 251, 252}, {3, 249}, {249, 250, 251, 252}
_CONDITIONAL = {11, 12, 13}  # R_PPC_REL14, and with a hint
_PLTREL24, _CALLS = 18, (18, 23)  # with R_PPC_LOCAL24PC
_BRANCH_REACH, _CONDITIONAL_REACH = 1 << 25, 1 << 15  # bytes
_U32 = 0xFFFF_FFFF


class Relocation(NamedTuple):
    """A place in linked code: its offset, R_PPC_…, the address it leads to, whether that moves too."""

    offset: int
    kind: int
    target: int
    own: bool


def relocations(file: ELFFile, address: int) -> Iterator[Relocation]:
    """Yield the relocations of code linked for ``address`` with ``ld --emit-relocs``."""
    for table, _, entry, symbol in entries(file):
        if not file.get_section(table["sh_info"])["sh_flags"] & SH_FLAGS.SHF_ALLOC:
            continue  # of debug information
        own = symbol["st_shndx"] not in ("SHN_ABS", "SHN_UNDEF")
        kind = entry["r_info_type"]
        # of a call through a table the addend says where that is: there is none, ld makes it a plain call
        target = symbol["st_value"] + (0 if kind == _PLTREL24 else entry["r_addend"]) & _U32
        yield Relocation(entry["r_offset"] - address, _REL24 if kind in _CALLS else kind, target, own)


def taken(places: Sequence[Relocation], start: int, end: int) -> bool:
    """Tell whether code or data has the address of anything of its own from ``start`` to ``end``."""
    by_address = (_ADDR32, _UADDR32, *_HALVES)
    return any(own and kind in by_address and start <= target < end for _, kind, target, own in places)


def moved(code: bytes, places: Sequence[Relocation], old: int, new: int) -> bytes | None:
    """Return code linked for ``old`` as at ``new``; None for a branch out of reach, an odd relocation."""
    out = bytearray(code)
    for offset, kind, target, own in places:
        to = target + (new - old if own else 0) & _U32
        if kind == _NONE:
            continue
        if kind in (_ADDR32, _UADDR32):
            struct.pack_into(">I", out, offset, to)
        elif kind == _REL32:
            struct.pack_into(">I", out, offset, to - new - offset & _U32)
        elif kind in _HALVES:
            if kind in _RELATIVE:
                to = to - new - offset & _U32
            if kind in _WHOLE and not to + 0x8000 & _U32 < 1 << 16:
                return None
            half = to + _HALVES[kind] >> (16 if kind in _UPPER else 0) & 0xFFFF
            struct.pack_into(">H", out, offset, half)
        elif kind == _REL24 or kind in _CONDITIONAL:
            reach, bits = (_BRANCH_REACH, 0x03FF_FFFC) if kind == _REL24 else (_CONDITIONAL_REACH, 0xFFFC)
            distance = (to - new - offset + 0x8000_0000 & _U32) - 0x8000_0000
            if not -reach <= distance < reach:
                return None
            (word,) = struct.unpack_from(">I", out, offset)
            struct.pack_into(">I", out, offset, word & ~bits | distance & bits)
        else:
            return None
    return bytes(out)
