"""The memory of a Linux with one module, as several versions of the kernel lay it out."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from component.fake import FakeRam

from kgdbpatch.image import Image, Section, Segment, Symbol
from kgdbpatch.image.contents import Contents
from kgdbpatch.isa import encode
from kgdbpatch.personality.base import MemoryPlan
from kgdbpatch.personality.linux import Linux

__all__ = ["CODE", "DATA", "LAYOUTS", "NAMES", "Loaded", "words"]

KERNEL, HEAD, DIRECTORY = 0xC000_0000, 0xC000_2000, 0xC000_3000
PAGE = 4096
CODE, DATA = 0xBE00_0000, 0xD100_0000
LAYOUTS = ("2.6", "4.9", "5.1", "6.1", "6.12")
_BLR, _NOP = 0x4E80_0020, encode.nop()
# A function that reads what may not be there, one with a jump label and an ftrace entry, one without either.
_CODE = [
    *(encode.lwz(3, 0, 3), _BLR, encode.addi(3, 0, -1), _BLR),
    *(encode.mflr(0), _NOP, _NOP, encode.addi(3, 3, 1), _BLR),
    *(encode.addi(3, 3, 2), _BLR),
]
NAMES = {"reads": (0, 16), "switches": (16, 20), "adds": (36, 8)}
LABEL, ENTRY, TARGET = 20, 24, 28  # offsets in the code


def words(*values: int) -> bytes:
    return b"".join(struct.pack(">I", value & 0xFFFF_FFFF) for value in values)


@dataclass
class Loaded:
    """A kernel (``layout`` says of which time) that has loaded the module ``one``."""

    layout: str
    state: int = 0
    ram: FakeRam = field(default_factory=lambda: FakeRam(32 << 20))
    next_frame: int = 0x40_0000

    def __post_init__(self) -> None:
        self.system = Linux(MemoryPlan(32, 16))
        self.distances = self.layout not in ("2.6", "4.9")
        self.parts = self.layout in ("6.1", "6.12")  # code and data are two pieces
        self.code, self.data = CODE, DATA if self.parts else CODE + PAGE
        self.image = self._kernel()
        self.map(self.code, 1)
        self.map(self.data, 2)
        self.write(self.code, words(*_CODE))
        self.structure = self.data + 0x40
        self._fill()
        self.link(self.structure + 4)

    def _kernel(self) -> Image:
        pair = (KERNEL, KERNEL + 4)
        held = words(*(at - (KERNEL + 0x1000 + 4 * n) if self.distances else at for n, at in enumerate(pair)))
        text = Section(".text", KERNEL, 16, words(*[_NOP] * 4), True, False)
        table = Section("__ex_table", KERNEL + 0x1000, 8, held, False, False)
        data = Section(".data", HEAD, 0x2000, bytes(0x2000), False, True)
        symbols = [
            Symbol("modules", HEAD, 8, ".data", "object"),
            Symbol("swapper_pg_dir", DIRECTORY, PAGE, ".data", "object"),
        ]
        segment = Segment("", KERNEL, 0x4000, b"", 0, 0)
        return Image(Path("vmlinux"), "elf", "", Contents(KERNEL, (text, table, data), (segment,), symbols))

    def map(self, address: int, pages: int) -> None:
        """Map pages at an address, each somewhere else in RAM."""
        for at in range(address, address + pages * PAGE, PAGE):
            entry = DIRECTORY - KERNEL + 4 * (at >> 22)
            if not self.ram.word(entry):
                self.ram.put(entry, self._frame())
            self.ram.put(self.ram.word(entry) + 4 * (at >> 12 & 0x3FF), self._frame() | 0x795)

    def unmap(self, address: int) -> None:
        """Take a page away; its entry keeps a bit, as on a CPU with a hashed page table."""
        table = self.ram.word(DIRECTORY - KERNEL + 4 * (address >> 22))
        self.ram.put(table + 4 * (address >> 12 & 0x3FF), 2)

    def _frame(self) -> int:
        self.next_frame += 2 * PAGE
        return self.next_frame

    def write(self, address: int, data: bytes) -> None:
        """Write kernel memory."""
        for offset in range(len(data)):
            at = address + offset
            physical = at - KERNEL
            if at < KERNEL or at >= KERNEL + (16 << 20):
                table = self.ram.word(DIRECTORY - KERNEL + 4 * (at >> 22))
                physical = (self.ram.word(table + 4 * (at >> 12 & 0x3FF)) & -PAGE) + at % PAGE
            self.ram.write(physical, data[offset : offset + 1])

    def link(self, *links: int) -> None:
        """Let the list of modules be this."""
        for at, following in pairwise((HEAD, *links, HEAD)):
            self.write(at, words(following))

    def _tables(self, at: int) -> bytes:
        label, entry, target = (self.code + offset for offset in (LABEL, ENTRY, TARGET))
        faults = (self.code, self.code + 8)
        if self.distances:
            faults = (faults[0] - at, faults[1] - at - 4)
            jump = (label - at - 8, target - at - 12, 0x1000)
        else:
            jump = (label, target, HEAD)
        return words(*faults, *jump, entry, 0)

    def _fill(self) -> None:
        """Write symbols, their names, tables and the structure."""
        names = ["", *NAMES, "there"]
        strings, offsets = b"\0", [0]
        for name in names[1:]:
            offsets.append(len(strings))
            strings += name.encode() + b"\0"
        symbols, letters = bytearray(16), b"?"
        for name, offset in zip(names[1:], offsets[1:], strict=True):
            at, size = NAMES.get(name, (self.data + 0x20 - self.code, 4))
            letter, info = ("t" if name == "adds" else "T", 0x12) if name in NAMES else ("d", 0x01)
            info = ord(letter) if self.layout in ("2.6", "4.9") else 0x02 if name == "adds" else info
            size = ord(letter) if self.layout == "5.1" else size
            symbols += struct.pack(">3I2BH", offset, self.code + at, size, info, 0, 1)
            letters += letter.encode()
        symtab, strtab, typetab, tables = (self.data + 0x800 + offset for offset in (0, 0x200, 0x300, 0x400))
        self.write(symtab, bytes(symbols))
        self.write(strtab, strings)
        self.write(typetab, letters)
        self.write(tables, self._tables(tables))
        self.write(self.structure, self._structure(len(names), symtab, strtab, typetab))

    def _structure(self, count: int, symtab: int, strtab: int, typetab: int) -> bytes:
        head = (
            words(self.state, 0, 0) + b"one".ljust(60, b"\0") + words(KERNEL + 0x8000, 0, 7, KERNEL + 0x9000)
        )
        size, all_of_it, tree = len(_CODE) * 4, PAGE + 2 * PAGE, words(self.structure, *[0] * 6)
        description = self.structure + 0x300  # where something points at; nothing is there
        if self.layout == "2.6":
            body = words(0, self.code, 0, all_of_it, 0, size, symtab, symtab, count, count, strtab, strtab)
        elif self.layout in ("4.9", "5.1"):
            body = words(self.code, all_of_it, size, size + 8, size + 8) + tree + words(0, 0, 0, 0)
            body += words(description, symtab, count, strtab)
        elif self.layout == "6.1":
            body = words(self.code, PAGE, PAGE, PAGE, PAGE) + tree + words(self.data, 2 * PAGE, 0, 16, 32)
            body += tree + words(0, 0, 0, 0, 0, description, symtab, count, strtab, typetab)
        else:
            body = words(self.code, size) + tree + words(self.data, 2 * PAGE) + tree + words(0, 0)
            body += words(description, symtab, count, strtab, typetab)
        return head + body
