"""Tell for which model of the PowerPC family a kernel file says that it was made."""

from __future__ import annotations

import struct

__all__ = ["model_of"]

# Entries of the note APUinfo (e500 ABI), as GNU binutils takes them.
_E500 = {0x43, 0x100, 0x101, 0x102}  # cache locking, SPE, embedded floating point, branch locking
_TITAN = {0x40, 0x41, 0x42}  # isel, performance monitor, rfmci: others have them too
_APUINFO = struct.pack(">I", 2) + b"APUinfo\0"  # behind the sizes of name and content

_SUBTYPES = {10: "7450", 11: "7450"}  # of Mach-O: 7400, 7450


def model_of(kind: str, data: bytes) -> str:
    """Return the model (as in `kgdbpatch.isa.models`) that a file names, "" where it names none."""
    if kind == "mach-o":
        return _SUBTYPES.get(struct.unpack_from(">I", data, 8)[0] & 0xFFFFFF, "")
    units = _units(data)
    return "e500" if units & _E500 else "titan" if units & _TITAN else ""


def _units(data: bytes) -> set[int]:
    """Return the auxiliary processing units that the file's notes name."""
    found: set[int] = set()
    at = data.find(_APUINFO)
    while at >= 0:
        if at >= 8:
            name, size = struct.unpack_from(">2I", data, at - 8)
            start = at + len(_APUINFO)
            if name == 8 and size % 4 == 0 and start + size <= len(data):
                found |= {unit >> 16 for unit in struct.unpack_from(f">{size // 4}I", data, start)}
        at = data.find(_APUINFO, at + 1)
    return found
