"""Take the calls of functions that nobody has out of an object file.

A weak name that the kernel lacks is 0, and code asks for that before it calls; ld encodes the call
all the same, as a branch to anywhere. As ld does for other processors, it becomes a nop, and a branch
in place of a call and a return becomes the return.
"""

from __future__ import annotations

import io
from collections.abc import Set
from typing import Any

from elftools.elf.elffile import ELFFile
from elftools.elf.relocation import RelocationSection

from kgdbpatch.isa import encode

__all__ = ["without_calls"]

_BRANCHES = {10, 18}  # R_PPC_REL24, R_PPC_PLTREL24 (System V ABI, PowerPC supplement, 4-18)


def without_calls(data: bytes, names: Set[str]) -> bytes:
    """Return an object file in which nothing calls or jumps to any of ``names``."""
    if not names:
        return data
    out, file = bytearray(data), ELFFile(io.BytesIO(data))
    for section in file.iter_sections():
        if not isinstance(section, RelocationSection):
            continue
        symbols: Any
        symbols, target = file.get_section(section["sh_link"]), file.get_section(section["sh_info"])
        for number, entry in enumerate(section.iter_relocations()):
            if (
                entry["r_info_type"] not in _BRANCHES
                or symbols.get_symbol(entry["r_info_sym"]).name not in names
            ):
                continue
            at = target["sh_offset"] + entry["r_offset"]
            word = encode.nop() if out[at + 3] & 1 else encode.blr()
            out[at : at + 4] = word.to_bytes(4, "big")
            out[section["sh_offset"] + number * section["sh_entsize"] + 7] = 0  # R_PPC_NONE
    return bytes(out)
