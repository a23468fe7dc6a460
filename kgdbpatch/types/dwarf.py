"""Make types of DWARF's entries."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from kgdbpatch.types.abbreviations import AT, TAG, uleb
from kgdbpatch.types.damage import guarded
from kgdbpatch.types.entries import Entries, Entry
from kgdbpatch.types.index import Index, build_index
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

__all__ = ["DwarfTypes"]

_QUALIFIERS = {
    TAG["const_type"]: "const",
    TAG["volatile_type"]: "volatile",
    TAG["restrict_type"]: "restrict",
    TAG["atomic_type"]: "_Atomic",
}
_ENCODINGS = {2: "bool", 3: "complex", 4: "float", 5: "signed", 6: "signed", 7: "unsigned", 8: "unsigned"}
_RECORDS = {TAG["structure_type"]: "struct", TAG["class_type"]: "struct", TAG["union_type"]: "union"}
_PLUS = 0x23  # DW_OP_plus_uconst


class DwarfTypes:
    """The types of a file, by the place of their entry; each is made once."""

    def __init__(self, path: Path, entries: Entries) -> None:
        self.path = path
        self._entries = entries
        self._made: dict[int, Type] = {}

    @guarded
    def index(self) -> Index:
        """Return where what has a name is."""
        return build_index(self._entries)

    @guarded
    def at(self, place: int) -> Type:
        """Return the type, or the function, that the entry at a place describes."""
        if place not in self._made:
            self._made[place] = self._make(self._entries.at(place))
        return self._made[place]

    @guarded
    def _target(self, entry: Entry) -> Type:
        place = entry.reference("type")
        return Void() if place is None else self.at(place)

    def _make(self, entry: Entry) -> Type:
        tag = entry.tag
        alignment = entry.number("alignment")
        if tag == TAG["base_type"]:
            encoding = _ENCODINGS.get(entry.number("encoding"), "unsigned")
            return Base(entry.name or "void", entry.number("byte_size"), encoding)
        if tag == TAG["pointer_type"]:
            size = entry.number("byte_size", self._entries.unit_of(entry.place).address_size)
            return Pointer(lambda: self._target(entry), size)
        if tag in _QUALIFIERS:
            return Qualified(lambda: self._target(entry), _QUALIFIERS[tag])
        if tag == TAG["typedef"]:
            return Typedef(lambda: self._target(entry), entry.name or "", alignment)
        if tag == TAG["array_type"]:
            return self._array(entry)
        signed = entry.reference("signature")
        if signed is not None and signed != entry.place:  # it stands in a unit of its own
            return self.at(signed)
        if tag in _RECORDS:
            complete = not entry.number("declaration")
            return Record(
                _RECORDS[tag],
                entry.name,
                entry.number("byte_size"),
                complete,
                lambda: self._members(entry),
                alignment,
            )
        if tag == TAG["enumeration_type"]:
            return self._enum(entry)
        if tag in (TAG["subroutine_type"], TAG["subprogram"]):
            variadic = any(one.tag == TAG["unspecified_parameters"] for one in self._entries.children(entry))
            prototyped = bool(entry.number("prototyped"))
            return Function(lambda: self._parts(entry), entry.name, variadic, prototyped)
        if tag == TAG["unspecified_type"]:
            return Void()
        raise ValueError(f"an entry of tag 0x{tag:x}, which is no type of C")

    def _array(self, entry: Entry) -> Type:
        counts: list[int | None] = []
        for one in self._entries.children(entry):
            if one.tag == TAG["subrange_type"]:
                counts.append(_count(one))
        vector = bool(entry.number("GNU_vector"))
        *outer, inner = counts or [None]
        made = Array(lambda: self._target(entry), inner, vector)
        for count in reversed(outer):
            made = Array(partial(_itself, made), count)
        return made

    def _enum(self, entry: Entry) -> Enum:
        size = entry.number("byte_size")
        values = tuple(
            (one.name or "", one.number("const_value"))
            for one in self._entries.children(entry)
            if one.tag == TAG["enumerator"]
        )
        return Enum(entry.name, size, not entry.number("declaration"), values)

    @guarded
    def _members(self, entry: Entry) -> tuple[Member, ...]:
        union = entry.tag == TAG["union_type"]
        return tuple(
            self._member(one, union) for one in self._entries.children(entry) if one.tag == TAG["member"]
        )

    def _member(self, entry: Entry, union: bool) -> Member:
        type_ = self._target(entry)
        given = entry.attributes.get(AT["data_member_location"], 0)
        if isinstance(given, bytes):
            if not given or given[0] != _PLUS:
                raise ValueError("a member's place is told by an expression that is not read")
            given, _ = uleb(given, 1)
        bit = 8 * given if isinstance(given, int) and not union else 0
        bits = entry.attributes.get(AT["bit_size"])
        if isinstance(bits, int):
            if AT["data_bit_offset"] in entry.attributes:
                bit = entry.number("data_bit_offset")
            elif AT["bit_offset"] in entry.attributes:  # until DWARF 4: from the unit's most significant bit
                skipped = entry.number("bit_offset")
                if self._entries.order == "little":
                    skipped = 8 * entry.number("byte_size", type_.size or 0) - skipped - bits
                bit += skipped
        return Member(
            entry.name, type_, bit, bits if isinstance(bits, int) else None, entry.number("alignment")
        )

    @guarded
    def _parts(self, entry: Entry) -> tuple[Type, tuple[Parameter, ...]]:
        wanted = TAG["formal_parameter"]
        parameters = (one for one in self._entries.children(entry) if one.tag == wanted)
        return self._target(entry), tuple(Parameter(one.name, self._target(one)) for one in parameters)


def _itself(array: Array) -> Type:
    return array


def _count(entry: Entry) -> int | None:
    """Return how many elements a dimension has; None where it does not say, or says so at run time."""
    count, last = entry.attributes.get(AT["count"]), entry.attributes.get(AT["upper_bound"])
    if isinstance(count, int):
        return count
    if isinstance(last, int):
        return 0 if last in (-1, 0xFFFFFFFF) else last + 1
    return None
