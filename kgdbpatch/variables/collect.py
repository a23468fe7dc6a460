"""Find the variables and functions of a linked payload: its symbols, and DWARF for their types."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from elftools.elf.elffile import ELFFile

from kgdbpatch.types.abbreviations import AT, TAG
from kgdbpatch.types.damage import guarded
from kgdbpatch.types.dwarf import DwarfTypes
from kgdbpatch.types.entries import Entries, Entry
from kgdbpatch.types.sections import DWARF, sections_of
from kgdbpatch.variables.note import Symbol, Variable
from kgdbpatch.variables.of_types import shape_of
from kgdbpatch.variables.shape import Shape, bytes_shape

__all__ = ["collect"]

_OP_ADDR = 3
_HIDDEN = "STV_HIDDEN"  # the compiler's own library's
_OWN_FILE = (0, 1)  # the number of the file that was compiled, to itself
_INSIDE = (TAG["subprogram"], TAG["lexical_block"])


def collect(data: bytes, size: int, constant: int, about: str) -> tuple[list[Variable], list[Symbol]]:
    """Return variables and functions of a linked ELF file, of ``size`` bytes from its ``.text`` on.

    The first ``constant`` bytes never change. Raises `BadImage` for damaged debug information.
    """
    text: Any = ELFFile(io.BytesIO(data)).get_section_by_name(".text")
    address = 0 if text is None else text["sh_addr"]
    objects, functions = _symbols(data, address, size)
    found = _Described(data, about).variables(address, size) if _has_dwarf(data) else []
    told = {one.offset for one in found}
    found += [
        Variable(name, "", offset, bytes_shape(length), exported)
        for offset, (name, length, exported) in sorted(objects.items())
        if offset not in told and length
    ]
    return [_judged(one, constant) for one in found], functions


def _judged(variable: Variable, constant: int) -> Variable:
    at = variable.offset
    inside = at is not None and at < constant
    return Variable(variable.name, variable.scope, at, variable.shape, variable.exported, inside)


def _has_dwarf(data: bytes) -> bool:
    return ELFFile(io.BytesIO(data)).get_section_by_name(DWARF) is not None


def _symbols(data: bytes, address: int, size: int) -> tuple[dict[int, tuple[str, int, bool]], list[Symbol]]:
    """Return objects by offset (name, bytes, exported), and functions."""
    table: Any = ELFFile(io.BytesIO(data)).get_section_by_name(".symtab")
    objects: dict[int, tuple[str, int, bool]] = {}
    functions: list[Symbol] = []
    for symbol in table.iter_symbols() if table is not None else ():
        offset, kind = symbol["st_value"] - address, symbol["st_info"]["type"]
        exported = symbol["st_info"]["bind"] != "STB_LOCAL" and symbol["st_other"]["visibility"] != _HIDDEN
        if not symbol.name or symbol["st_shndx"] in ("SHN_ABS", "SHN_UNDEF") or not 0 <= offset < size:
            continue
        if kind == "STT_FUNC":
            functions.append(Symbol(symbol.name, offset, exported))
        elif kind == "STT_OBJECT":
            objects.setdefault(offset, (symbol.name, symbol["st_size"], exported))
    return objects, functions


class _Described:
    """The variables that debug information tells of."""

    def __init__(self, data: bytes, about: str) -> None:
        self.path = Path(about)
        self._entries = Entries(sections_of(self.path, io.BytesIO(data)))
        self._types = DwarfTypes(self.path, self._entries)

    @guarded
    def variables(self, address: int, size: int) -> list[Variable]:
        """Return them, those of a name and scope once."""
        found: dict[tuple[str, str], Variable] = {}
        for unit in self._entries.units:
            top = self._entries.at(unit.first)
            file = Path(top.name or "").stem
            for one in self._all(top, file, address, size):
                known = found.get((one.name, one.scope))
                if known is None or known.offset is None:
                    found[one.name, one.scope] = one
        return list(found.values())

    def _all(self, parent: Entry, scope: str, address: int, size: int) -> Iterator[Variable]:
        for entry in self._entries.children(parent):
            if entry.tag == TAG["variable"]:
                one = self._variable(entry, scope, parent.tag == TAG["compile_unit"])
                if one is not None and one.offset is not None:
                    offset = one.offset - address
                    if 0 <= offset < size:
                        yield Variable(one.name, one.scope, offset, one.shape, one.exported)
                elif one is not None:
                    yield one
            elif entry.tag in _INSIDE:
                yield from self._all(entry, entry.name or scope, address, size)

    def _variable(self, entry: Entry, scope: str, outside: bool) -> Variable | None:
        """Return what an entry tells of, by address; None for a declaration, and for one on the stack."""
        place = entry.reference("specification")
        told = entry if place is None else self._entries.at(place)
        where = entry.attributes.get(AT["location"])
        if told.name is None or entry.number("declaration"):
            return None
        exported = bool(told.number("external"))
        if isinstance(where, bytes) and len(where) == 5 and where[0] == _OP_ADDR:
            at = int.from_bytes(where[1:], "big")
            return Variable(told.name, "" if exported else scope, at, self._shape(told), exported)
        dropped = outside and where is None and entry.number("decl_file") in _OWN_FILE
        return Variable(told.name, scope, None, bytes_shape(0), exported=False) if dropped else None

    def _shape(self, entry: Entry) -> Shape:
        place = entry.reference("type")
        return bytes_shape(0) if place is None else shape_of(self._types.at(place))
