"""Mach-O object files (MH_OBJECT) of PowerPC as ELF objects, for the linker: written out for the assembler.

Every section becomes one of its own, so that what refers from one to another needs an ELF relocation
("Mac OS X ABI Mach-O File Format Reference"; System V ABI, PowerPC supplement, chapter 4).
"""

from __future__ import annotations

import re
import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path

from kgdbpatch.errors import BadImage, BadPatch
from kgdbpatch.image.kext import Entry, Kext, Part
from kgdbpatch.image.relocate import BadRelocation, Relocation, read_relocations
from kgdbpatch.toolchain.gnu import complaint, run

__all__ = ["elf_of", "is_macho"]

_PPC32 = b"\xfe\xed\xfa\xce"
_MAGICS = (_PPC32, b"\xce\xfa\xed\xfe", b"\xfe\xed\xfa\xcf", b"\xcf\xfa\xed\xfe")
_POWERPC, _MH_OBJECT = 18, 1
_STAB, _TYPE, _EXTERNAL, _UNDEFINED, _ABSOLUTE, _SECTION = 0xE0, 0x0E, 0x01, 0x0, 0x2, 0xE
_VANILLA, _BR14, _BR24, _HI16, _LO16, _HA16, _JBSR = 0, 2, 3, 4, 5, 6, 13
_SECTDIFF, _HI16_DIFF, _LO16_DIFF, _HA16_DIFF, _LOCAL_DIFF = 8, 10, 11, 12, 15
_PLAIN = {_HI16_DIFF: _HI16, _LO16_DIFF: _LO16, _HA16_DIFF: _HA16}
_HALVES = {_HI16: "HI", _LO16: "LO", _HA16: "HA"}
_BRANCHES = {_BR24: (26, "24"), _BR14: (16, "14")}  # bits with the two that are 0, name of the relocation
# what lists functions to be called first and at the end; the second names are those of kernel extensions
_CALLS = {
    **dict.fromkeys(("__mod_init_func", "__constructor"), "init_array"),
    **dict.fromkeys(("__mod_term_func", "__destructor"), "fini_array"),
}
_NAME = re.compile(r"[\w.$]+")
_LINE = 16  # bytes


def is_macho(head: bytes) -> bool:
    """Tell whether a file begins as Mach-O files do."""
    return head[:4] in _MAGICS


def elf_of(data: bytes, path: Path) -> bytes:
    """Return the ELF object of a Mach-O one; raise `BadPatch` for a damaged one, or of another machine.

    Names lose the ``_`` that Darwin's compilers put before each of C.
    """
    machine, filetype = struct.unpack_from(">4xI4xI", data.ljust(16, b"\0"))
    if data[:4] != _PPC32 or machine != _POWERPC:
        raise BadPatch(f"{path}: not for 32-bit big-endian PowerPC")
    if filetype != _MH_OBJECT:
        raise BadPatch(f"{path}: not an object file but a linked one: give the objects that it was made of")
    try:
        text = "\n".join(_Assembly(Kext(path, data), data).lines())
    except BadImage as error:
        raise BadPatch(str(error)) from error
    except (BadRelocation, struct.error) as error:
        raise BadPatch(f"{path}: {error}") from error
    with tempfile.TemporaryDirectory(prefix="kgdbpatch-") as directory:
        made = Path(directory, "macho.o")
        done = run("as", "-mregnames", "-many", "-o", made, "-", about=str(path), text=f"{text}\n")
        if done.returncode:
            raise complaint(done.stderr, str(path), "as")
        return made.read_bytes()


class _Assembly:
    """The assembler's text of one object."""

    def __init__(self, kext: Kext, data: bytes) -> None:
        self._parts, self._entries, self._data = kext.parts, kext.entries, data

    def lines(self) -> Iterator[str]:
        for number, part in enumerate(self._parts):
            yield from self._part(number, part)
        for entry in self._entries:
            yield from self._symbol(entry)

    def _part(self, number: int, part: Part) -> Iterator[str]:
        writable = part.name.startswith("__DATA,")
        name, flags = (".text", "ax") if part.code else (".data", "aw") if writable else (".rodata", "a")
        kind = "nobits" if part.zero else "progbits"
        if part.zero:
            name, flags = ".bss", "aw"
        elif (calls := _CALLS.get(part.name.partition(",")[2])) is not None:
            name, flags, kind = f".{calls}", "aw", calls
        yield f'.section {name}.part{number},"{flags}",@{kind}'
        yield f".balign {min(part.address & -part.address or 16, 16)}"
        yield f".Lpart{number}:"
        if part.zero:
            yield f".zero {part.size}"
            return
        held = self._data[part.offset : part.offset + part.size]
        for at in range(0, len(held), _LINE):
            yield ".byte " + ",".join(map(str, held[at : at + _LINE]))
        for relocation in read_relocations(part.relocations):
            yield from self._relocation(number, part, relocation, held)

    def _symbol(self, entry: Entry) -> Iterator[str]:
        kind, name = entry.kind & _TYPE, _plain(entry.name)
        if entry.kind & _STAB or not name or not _NAME.fullmatch(name):
            return
        if kind == _SECTION and 0 < entry.section <= len(self._parts):
            part = self._parts[entry.section - 1]
            yield f'.set "{name}",.Lpart{entry.section - 1}+{entry.value - part.address}'
            yield f'.type "{name}",@{"function" if part.code else "object"}'
        elif kind == _ABSOLUTE:
            yield f'.set "{name}",0x{entry.value:x}'
        elif kind == _UNDEFINED and entry.value:
            yield f'.comm "{name}",{entry.value},16'
        if entry.kind & _EXTERNAL and kind in (_SECTION, _ABSOLUTE):
            yield f'.globl "{name}"'

    def _relocation(self, number: int, part: Part, it: Relocation, held: bytes) -> Iterator[str]:
        at, kind = it.address, it.kind
        if at + 4 > len(held):
            raise BadRelocation(f"the relocation at 0x{at:x} lies outside its section")
        (word,) = struct.unpack_from(">I", held, at)
        place = f".reloc .Lpart{number}+{at}"
        if kind == _JBSR:  # a call of an island in the same section
            return
        if kind in (_SECTDIFF, _LOCAL_DIFF):
            base = self._around(it.other)
            if base == self._around(it.refers):
                return
            self._check_base(base, number, at)
            value = word + it.other & 0xFFFF_FFFF
            yield f"{place},R_PPC_REL32,{self._target(it, value, part.address + at - it.other)}"
        elif kind in _PLAIN:
            base = self._around(it.other)
            if base == self._around(it.refers):
                return
            self._check_base(base, number, at)
            value = _half(_PLAIN[kind], word & 0xFFFF, it.half) + it.other & 0xFFFF_FFFF
            target = self._target(it, value, part.address + at + 2 - it.other)
            yield f"{place}+2,R_PPC_REL16_{_HALVES[_PLAIN[kind]]},{target}"
        elif kind in _HALVES:
            value = _half(kind, word & 0xFFFF, it.half) & 0xFFFF_FFFF
            yield f"{place}+2,R_PPC_ADDR16_{_HALVES[kind]},{self._target(it, value)}"
        elif kind == _VANILLA and it.length == 2 and not it.relative:
            yield f"{place},R_PPC_ADDR32,{self._target(it, word)}"
        elif kind in _BRANCHES:
            bits, name = _BRANCHES[kind]
            sign = 1 << bits - 1
            value = (word & (1 << bits) - 4 ^ sign) - sign + (part.address + at if it.relative else 0)
            sort = "REL" if it.relative else "ADDR"
            yield f"{place},R_PPC_{sort}{name},{self._target(it, value & 0xFFFF_FFFF)}"
        else:
            raise BadRelocation(f"the relocation at 0x{at:x} is of type {kind}, which no payload can have")

    def _check_base(self, base: int, number: int, at: int) -> None:
        if base != number:
            raise BadRelocation(f"the difference at 0x{at:x} is of two other sections")

    def _around(self, address: int) -> int:
        """Return the number of the section that an address is in, or the one that ends there."""
        for last in (False, True):
            for number, part in enumerate(self._parts):
                if part.address <= address < part.address + part.size + last:
                    return number
        raise BadRelocation(f"0x{address:x} is in no section")

    def _target(self, it: Relocation, value: int, more: int = 0) -> str:
        """Return what a relocation refers to: ``value`` in the object, ``more`` behind it."""
        if it.external:
            if it.refers >= len(self._entries) or not self._entries[it.refers].name:
                raise BadRelocation(f"the relocation at 0x{it.address:x} refers to no symbol")
            signed = (value ^ 0x8000_0000) - 0x8000_0000
            return f'"{_plain(self._entries[it.refers].name)}"+{signed + more}'
        if it.scattered:
            number = self._around(it.refers)
        elif not it.refers:
            return f"{value + more}"
        elif it.refers > len(self._parts):
            raise BadRelocation(f"the relocation at 0x{it.address:x} refers to no section")
        else:
            number = it.refers - 1
        return f".Lpart{number}+{value - self._parts[number].address + more}"


def _half(kind: int, half: int, other: int) -> int:
    """Return the value of which an instruction has a half, its PAIR the other."""
    if kind == _LO16:
        return other << 16 | half
    return (half << 16) + ((other ^ 0x8000) - 0x8000 if kind == _HA16 else other)


def _plain(name: str) -> str:
    return name.removeprefix("_")
