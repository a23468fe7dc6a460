"""Read a big-endian PowerPC Mach-O object file, which a Darwin kernel extension is, and link it.

LIEF misreads its relocations, so it is read here, strictly ("Mac OS X ABI Mach-O File Format Reference").
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass

from kgdbpatch.errors import BadImage
from kgdbpatch.image.contents import Contents
from kgdbpatch.image.macho import defined, in_order
from kgdbpatch.image.model import Section, Segment, Symbol
from kgdbpatch.image.relocate import BadRelocation, Relocation, apply, read_relocations

__all__ = ["Entry", "Kext", "Part", "read_kext"]

_LC_SEGMENT, _LC_SYMTAB = 1, 2
_N_STAB, _N_TYPE, _N_EXT, _N_UNDF, _N_SECT = 0xE0, 0x0E, 0x01, 0x0, 0xE
_ZERO_FILL, _CODE = 1, 0x8000_0400
_MOST = 1 << 24  # bytes: scattered addresses have 24 bits
_STUB = 16  # bytes between the addresses that undefined symbols get


@dataclass(frozen=True, slots=True)
class Part:
    """A section: its place in the object, its bytes' in the file, its relocations as they stand there."""

    name: str
    address: int
    size: int
    offset: int
    zero: bool
    code: bool
    relocations: bytes


@dataclass(frozen=True, slots=True)
class Entry:
    """A symbol as it stands in the table (an nlist)."""

    name: str
    kind: int
    section: int
    value: int


class Kext:
    """A kernel extension that is not linked yet.

    >>> extension = Kext("a.kext", data)
    >>> contents = extension.link(0x2000000, {"_printf": 0x12345678})
    """

    def __init__(self, path: object, data: bytes) -> None:
        self._path, self._data = path, data
        self._parts: list[Part] = []
        self._symbols: list[Entry] = []
        self._commands()
        if not self._parts:
            raise BadImage(path, "the Mach-O object file has no sections")
        self._end = max(part.address + part.size for part in self._parts)
        if self._end > _MOST:
            raise BadImage(path, "the sections of the Mach-O object file are larger than 16 MiB")

    @property
    def parts(self) -> tuple[Part, ...]:
        """Return its sections, in the order in which relocations count them, from 1 on."""
        return tuple(self._parts)

    @property
    def entries(self) -> tuple[Entry, ...]:
        """Return its symbols, as relocations count them."""
        return tuple(self._symbols)

    def _bad(self, reason: str) -> BadImage:
        return BadImage(self._path, reason)

    def _piece(self, offset: int, size: int, what: str) -> bytes:
        if offset + size > len(self._data):
            raise self._bad(f"truncated: {what} ends beyond the end of the file")
        return self._data[offset : offset + size]

    def _commands(self) -> None:
        count, total = struct.unpack(">2I", self._piece(16, 8, "the header"))
        at, end = 28, 28 + total
        for _ in range(count):
            if at + 8 > end:
                raise self._bad("truncated or damaged load commands")
            command, size = struct.unpack(">2I", self._piece(at, 8, "a load command"))
            if size < 8 or at + size > end:
                raise self._bad("truncated or damaged load commands")
            body = self._piece(at, size, "a load command")
            if command == _LC_SEGMENT:
                self._segment(body)
            elif command == _LC_SYMTAB:
                self._symbol_table(body)
            at += size

    def _segment(self, body: bytes) -> None:
        if len(body) < 56 or self._parts:
            raise self._bad("an object file has one segment")
        (count,) = struct.unpack_from(">I", body, 48)
        if len(body) < 56 + 68 * count:
            raise self._bad("the segment holds fewer sections than it says")
        for index in range(count):
            fields = struct.unpack_from(">16s16s9I", body, 56 + 68 * index)
            name, owner = (field.split(b"\0", 1)[0].decode("latin-1") for field in fields[:2])
            address, size, offset, _, where, entries, flags = fields[2:9]
            zero = flags & 0xFF == _ZERO_FILL
            if address + size > _MOST:
                raise self._bad(f"section '{owner},{name}' ends beyond 16 MiB")
            if not zero:
                self._piece(offset, size, f"section '{owner},{name}'")
            relocations = (
                self._piece(where, 8 * entries, f"a relocation of '{owner},{name}'") if entries else b""
            )
            code = bool(flags & _CODE) or (owner, name) == ("__TEXT", "__text")
            self._parts.append(Part(f"{owner},{name}", address, size, offset, zero, code, relocations))

    def _symbol_table(self, body: bytes) -> None:
        if len(body) < 24:
            raise self._bad("truncated or damaged load commands")
        offset, count, strings_at, strings_size = struct.unpack_from(">4I", body, 8)
        table = self._piece(offset, 12 * count, "the symbol table")
        strings = self._piece(strings_at, strings_size, "the string table")
        for name_at, kind, section, _, value in struct.iter_unpack(">I2BHI", table):
            end = strings.find(b"\0", name_at)
            if name_at and end < 0:
                raise self._bad("a symbol's name lies outside the string table")
            name = strings[name_at:end].decode("utf-8", "replace") if name_at else ""
            self._symbols.append(Entry(name, kind, section, value))

    @property
    def size(self) -> int:
        """Return how many bytes it takes, common symbols included."""
        return self._common(0)[1]

    @property
    def undefined(self) -> tuple[str, ...]:
        """Return the names that the kernel has to supply, in the order of the file."""
        return tuple(dict.fromkeys(s.name for s in self._symbols if _is_undefined(s) and not s.value))

    def link(self, base: int, names: Mapping[str, int]) -> Contents:
        """Return the extension at ``base``, what it lacks being where ``names`` says; or `BadImage`."""
        missing = [name for name in self.undefined if name not in names]
        if missing:
            raise self._bad(f"undefined symbols: {', '.join(missing[:5])}")
        common, end = self._common(base)
        if end > 1 << 32:
            raise self._bad("the extension ends beyond the 32-bit address space")
        where = {**names, **common}
        sections = [self._section(part, base, where) for part in self._parts]
        if common:
            start = base + self._end
            sections.append(Section("__DATA,__common", start, end - start, b"", False, True, 0))
        image = bytearray(self._end)
        for section in sections:
            image[section.address - base : section.address - base + len(section.data)] = section.data
        return Contents(
            entry=0,
            sections=tuple(sections),
            segments=(Segment("", base, end - base, bytes(image), 0),),
            symbols=self._linked_symbols(base, sections, where),
        )

    def _common(self, base: int) -> tuple[dict[str, int], int]:
        """Return addresses of common symbols, behind the sections, and where they end."""
        at, found = base + self._end, {}
        for symbol in self._symbols:
            if _is_undefined(symbol) and symbol.value and symbol.name not in found:
                at = -(-at // 16) * 16
                found[symbol.name] = at
                at += symbol.value
        return found, at

    def _section(self, part: Part, base: int, where: Mapping[str, int]) -> Section:
        data = bytearray() if part.zero else bytearray(self._data[part.offset : part.offset + part.size])
        try:
            for relocation in read_relocations(part.relocations):
                apply(data, relocation, base, lambda r: self._moved(r, base, where))
        except BadRelocation as error:
            raise self._bad(f"{part.name}: {error}") from error
        writable = part.name.startswith("__DATA,")
        return Section(
            part.name, base + part.address, part.size, bytes(data), part.code, writable, part.offset
        )

    def _moved(self, relocation: Relocation, base: int, where: Mapping[str, int]) -> int:
        """Return by how much that which a relocation refers to moved."""
        if relocation.scattered:
            return base
        if not relocation.external:
            if relocation.refers > len(self._parts):
                raise BadRelocation(f"the relocation at 0x{relocation.address:x} refers to no section")
            return base if relocation.refers else 0
        if relocation.refers >= len(self._symbols):
            raise BadRelocation(f"the relocation at 0x{relocation.address:x} refers to no symbol")
        symbol = self._symbols[relocation.refers]
        if _is_undefined(symbol):
            return where[symbol.name]
        return _placed(symbol, base)

    def _linked_symbols(
        self, base: int, sections: list[Section], where: Mapping[str, int]
    ) -> tuple[Symbol, ...]:
        own, found = sections[: len(self._parts)], []
        for entry in self._symbols:
            if _is_undefined(entry) and entry.name in where:
                size, owner = (entry.value, "__DATA,__common") if entry.value else (0, "")
                what, exported = "object" if owner else "absolute", bool(entry.kind & _N_EXT)
                found.append(Symbol(entry.name, where[entry.name], size, owner, what, exported))
            else:
                found += defined(entry.name, entry.kind, entry.section, _placed(entry, base), own)
        return in_order(found)


def _placed(symbol: Entry, base: int) -> int:
    return symbol.value + (base if symbol.kind & _N_TYPE == _N_SECT else 0)


def _is_undefined(symbol: Entry) -> bool:
    return not symbol.kind & _N_STAB and symbol.kind & _N_TYPE == _N_UNDF and bool(symbol.name)


def read_kext(path: object, data: bytes) -> Contents:
    """Take apart an extension in its file: at 0, what it lacks at made-up places behind it."""
    kext = Kext(path, data)
    first = -(-kext.size // 0x1000) * 0x1000
    if first + _STUB * len(kext.undefined) > 1 << 32:
        raise BadImage(path, "the extension ends beyond the 32-bit address space")
    return kext.link(0, {name: first + _STUB * n for n, name in enumerate(kext.undefined)})
