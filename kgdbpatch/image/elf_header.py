"""The header of a big-endian 32-bit PowerPC ELF file, checked, and the tables that it points to.

Counts that do not fit into the header stand in the section header number 0 (System V ABI, "ELF
Header": ``e_shnum`` 0, ``e_shstrndx`` SHN_XINDEX; Solaris and Linux besides: ``e_phnum`` PN_XNUM).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kgdbpatch.errors import BadImage

__all__ = ["PROGRAM_HEADER", "SECTION_HEADER", "ElfHeader"]

_EM_PPC = 20
_EM_NAMES = {3: "i386", 21: "64-bit PowerPC", 40: "ARM", 62: "x86-64", 183: "ARM64", 8: "MIPS", 243: "RISC-V"}
_ELF_TYPES = {0: "of no type", 1: "an object file", 4: "a core file"}
_ET_EXEC, _ET_DYN = 2, 3
_SHN_XINDEX = _PN_XNUM = 0xFFFF

PROGRAM_HEADER = np.dtype(  # Elf32_Phdr
    [(name, ">u4") for name in ("type", "offset", "vaddr", "paddr", "filesz", "memsz", "flags", "align")]
)
SECTION_HEADER = np.dtype(  # Elf32_Shdr
    [
        (field, ">u4")
        for field in ("name", "type", "flags", "addr", "offset", "size", "link", "info", "align", "entsize")
    ]
)


@dataclass(frozen=True, slots=True)
class ElfHeader:
    """What the header says; ``names`` is the number of the section that holds the sections' names."""

    entry: int
    is_shared: bool
    segments_at: int
    segments: int
    sections_at: int
    sections: int
    names: int

    @classmethod
    def read(cls, path: object, data: bytes) -> ElfHeader:
        """Check the header of the ELF file ``data``; raise `BadImage` with the reason."""
        kind = _kind(path, data)
        if len(data) < 52:
            raise BadImage(path, "truncated in the ELF header")
        entry, phoff, shoff = struct.unpack_from(">3I", data, 24)
        phentsize, phnum, shentsize, shnum, names = struct.unpack_from(">5H", data, 42)
        if shoff and (not shnum or phnum == _PN_XNUM or names == _SHN_XINDEX):
            if shoff + SECTION_HEADER.itemsize > len(data):
                raise BadImage(path, "truncated: the section headers lie beyond the end of the file")
            size, link, info = struct.unpack_from(">3I", data, shoff + 20)
            shnum = shnum or size
            names = link if names == _SHN_XINDEX else names
            phnum = info if phnum == _PN_XNUM and info else phnum
        if not phnum:
            raise BadImage(path, "the ELF file has no segments to load")
        if phentsize != PROGRAM_HEADER.itemsize or (shnum and shentsize != SECTION_HEADER.itemsize):
            raise BadImage(path, "the ELF header gives impossible table sizes")
        if phoff + PROGRAM_HEADER.itemsize * phnum > len(data):
            raise BadImage(path, "truncated in the program headers")
        if shoff + SECTION_HEADER.itemsize * shnum > len(data):
            raise BadImage(path, "truncated: the section headers lie beyond the end of the file")
        return cls(entry, kind == _ET_DYN, phoff, phnum, shoff, shnum, names)

    def program_headers(self, data: bytes) -> npt.NDArray[np.void]:
        """Return the program headers, of type `PROGRAM_HEADER`."""
        return np.frombuffer(data, PROGRAM_HEADER, self.segments, self.segments_at)

    def section_headers(self, data: bytes) -> npt.NDArray[np.void]:
        """Return the section headers, of type `SECTION_HEADER`."""
        return np.frombuffer(data, SECTION_HEADER, self.sections, self.sections_at if self.sections else 0)


def _kind(path: object, data: bytes) -> int:
    """Return the file's type, ET_EXEC or ET_DYN."""
    if len(data) < 20:
        raise BadImage(path, "truncated in the ELF header")
    wide, order = data[4], data[5]
    if wide not in {1, 2} or order not in {1, 2}:
        raise BadImage(path, "the ELF header names no known class or byte order")
    kind, machine = struct.unpack_from("<2H" if order == 1 else ">2H", data, 16)
    if machine != _EM_PPC:
        name = _EM_NAMES.get(machine, f"machine {machine}")
        raise BadImage(path, f"an ELF file for {name}, not 32-bit PowerPC")
    if wide == 2:
        raise BadImage(path, "a 64-bit ELF file; 32-bit is needed")
    if order == 1:
        raise BadImage(path, "a little-endian ELF file; PowerPC kernels are big-endian")
    if kind not in {_ET_EXEC, _ET_DYN}:
        raise BadImage(path, f"the ELF file is {_ELF_TYPES.get(kind, f'of type {kind}')}, not an executable")
    return int(kind)
