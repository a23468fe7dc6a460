"""Make types of BTF, the kernel's own compact form of debug information (Documentation/bpf/btf.rst)."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from kgdbpatch.types.damage import guarded
from kgdbpatch.types.index import KINDS, Index
from kgdbpatch.types.model import (
    Array,
    Base,
    Enum,
    Function,
    Member,
    Parameter,
    Pointer,
    Qualified,
    Record,
    Type,
    Typedef,
    Void,
)
from kgdbpatch.types.sections import BTF, TypeSections

__all__ = ["BtfTypes"]

_MAGIC = 0xEB9F
_INT, _PTR, _ARRAY, _STRUCT, _UNION, _ENUM, _FWD, _TYPEDEF, _VOLATILE, _CONST, _RESTRICT = range(1, 12)
_FUNC, _FUNC_PROTO, _VAR, _DATASEC, _FLOAT, _DECL_TAG, _TYPE_TAG, _ENUM64 = range(12, 20)
_ROW = {_ARRAY: 12, _INT: 4, _VAR: 4, _DECL_TAG: 4}  # bytes that follow a type
_ROWS = {
    _STRUCT: 12,
    _UNION: 12,
    _ENUM: 8,
    _ENUM64: 12,
    _FUNC_PROTO: 8,
    _DATASEC: 12,
}  # and for each of its parts
_QUALIFIERS = {_VOLATILE: "volatile", _CONST: "const", _RESTRICT: "restrict"}
_NAMES = {
    _STRUCT: "struct",
    _UNION: "union",
    _ENUM: "enum",
    _ENUM64: "enum",
    _TYPEDEF: "typedef",
    _INT: "base",
}
_NAMES |= {_FLOAT: "base", _FUNC: "function"}
_SIGNED, _BOOL = 1, 4  # of an integer's encoding


class _Row(NamedTuple):
    """A type as it stands there; ``number`` is its size or the type it is made of; ``at``: what follows."""

    name: str
    kind: int
    parts: int
    flag: bool
    number: int
    at: int


class BtfTypes:
    """The types of a ``.BTF`` section, by their number."""

    def __init__(self, path: Path, sections: TypeSections) -> None:
        self.path = path
        self._data = sections.get(BTF)
        self._order = "<" if sections.little_endian else ">"
        self._rows: list[_Row] = []
        self._made: dict[int, Type] = {0: Void()}
        self._read()

    def _unpack(self, form: str, at: int) -> tuple[int, ...]:
        return struct.unpack_from(self._order + form, self._data, at)

    @guarded
    def _read(self) -> None:
        magic, version, _, head, types, types_size, strings, strings_size = self._unpack("HBBIIIII", 0)
        if magic != _MAGIC or version != 1:
            raise ValueError("no BTF of version 1")
        at, end = head + types, head + types + types_size
        self._text = self._data[head + strings : head + strings + strings_size]
        if max(end, head + strings + strings_size) > len(self._data):
            raise ValueError("truncated BTF")
        while at < end:
            name, info, number = self._unpack("III", at)
            kind, parts, flag = info >> 24 & 0x1F, info & 0xFFFF, bool(info >> 31)
            if not _INT <= kind <= _ENUM64:
                raise ValueError(f"BTF of kind {kind}, which is not known")
            at += 12
            self._rows.append(_Row(self._string(name), kind, parts, flag, number, at))
            at += _ROW.get(kind, 0) + parts * _ROWS.get(kind, 0)

    def _string(self, at: int) -> str:
        return self._text[at : self._text.index(b"\0", at)].decode("utf-8", "replace")

    def index(self) -> Index:
        """Return where what has a name is."""
        found: Index = {kind: {} for kind in KINDS.values()}
        forward: Index = {kind: {} for kind in KINDS.values()}
        for number, row in enumerate(self._rows, 1):
            if row.kind == _FWD:
                forward["union" if row.flag else "struct"].setdefault(row.name, number)
            elif row.kind in _NAMES and row.name:
                found[_NAMES[row.kind]].setdefault(row.name, number)
        return {kind: {**forward[kind], **found[kind]} for kind in found}

    @guarded
    def at(self, place: int) -> Type:
        """Return the type of a number."""
        if place not in self._made:
            self._made[place] = self._make(self._rows[place - 1])
        return self._made[place]

    def _to(self, number: int) -> Callable[[], Type]:
        return lambda: self.at(number)

    def _make(self, row: _Row) -> Type:
        kind, name = row.kind, row.name or None
        if kind == _INT:
            (encoding,) = self._unpack("I", row.at)
            says = encoding >> 24 & 0xF
            return Base(
                row.name, row.number, "bool" if says & _BOOL else "signed" if says & _SIGNED else "unsigned"
            )
        if kind == _FLOAT:
            return Base(row.name, row.number, "float")
        if kind == _PTR:
            return Pointer(self._to(row.number))
        if kind in _QUALIFIERS:
            return Qualified(self._to(row.number), _QUALIFIERS[kind])
        if kind == _TYPE_TAG:
            return self.at(row.number)
        if kind == _TYPEDEF:
            return Typedef(self._to(row.number), row.name)
        if kind == _ARRAY:
            element, _, count = self._unpack("III", row.at)
            return Array(self._to(element), count)
        if kind in (_STRUCT, _UNION):
            what = "struct" if kind == _STRUCT else "union"
            return Record(what, name, row.number, True, lambda: self._members(row))
        if kind == _FWD:
            return Record("union" if row.flag else "struct", name, 0, False, lambda: ())
        if kind in (_ENUM, _ENUM64):
            return Enum(name, row.number, bool(row.parts), self._values(row))
        if kind == _FUNC:
            prototype = self.at(row.number)
            if not isinstance(prototype, Function):
                raise ValueError(f"the function {row.name} has no prototype")
            return Function(prototype.fetch, name, prototype.variadic)
        if kind == _FUNC_PROTO:
            last = self._unpack("II", row.at + 8 * (row.parts - 1)) if row.parts else (1, 1)
            return Function(lambda: self._parts(row), None, last == (0, 0))
        raise ValueError(f"BTF of kind {kind} is no type of C")

    def _values(self, row: _Row) -> tuple[tuple[str, int], ...]:
        values = []
        for at in range(row.at, row.at + row.parts * _ROWS[row.kind], _ROWS[row.kind]):
            if row.kind == _ENUM:
                name, value = self._unpack("Ii" if row.flag else "II", at)
            else:
                name, low, high = self._unpack("III", at)
                value = high << 32 | low
                value -= (1 << 64) if row.flag and value >= 1 << 63 else 0
            values.append((self._string(name), value))
        return tuple(values)

    @guarded
    def _members(self, row: _Row) -> tuple[Member, ...]:
        members = []
        for at in range(row.at, row.at + 12 * row.parts, 12):
            name, type_, place = self._unpack("III", at)
            bits, bit = (place >> 24, place & 0xFFFFFF) if row.flag else (0, place)
            members.append(Member(self._string(name) or None, self.at(type_), bit, bits or None))
        return tuple(members)

    @guarded
    def _parts(self, row: _Row) -> tuple[Type, tuple[Parameter, ...]]:
        parameters = []
        for at in range(row.at, row.at + 8 * row.parts, 8):
            name, type_ = self._unpack("II", at)
            if (name, type_) != (0, 0):
                parameters.append(Parameter(self._string(name) or None, self.at(type_)))
        return self.at(row.number), tuple(parameters)
