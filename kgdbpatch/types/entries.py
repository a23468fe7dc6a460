"""Read DWARF's debugging entries, versions 2 to 5, one by one; some fifty times faster than pyelftools."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

from kgdbpatch.types.abbreviations import AT, FORM, Abbreviation, read_abbreviations, sleb, uleb
from kgdbpatch.types.sections import DWARF, TypeSections

__all__ = ["Entries", "Entry", "Unit"]

Value = int | str | bytes
_TYPE_UNITS, _SKELETONS = {2, 6}, {4, 5}  # DW_UT_type, DW_UT_split_type; DW_UT_skeleton, DW_UT_split_compile
_PLAIN = {FORM[f"data{n}"]: n for n in (1, 2, 4, 8)} | {FORM["flag"]: 1}
_LOCAL = {FORM[f"ref{n}"]: n for n in (1, 2, 4, 8)}
_NUMBERS = {FORM[name]: 4 for name in ("sec_offset", "strp_sup", "ref_sup4", "GNU_ref_alt", "GNU_strp_alt")}
_NUMBERS |= {FORM["ref_sup8"]: 8} | {FORM[f"addrx{n}"]: n for n in (1, 2, 3, 4)}
_INDICES = {FORM[f"strx{n}"]: n for n in (1, 2, 3, 4)}
_COUNTED = {FORM[f"block{n}"]: n for n in (1, 2, 4)}
_ULEB = {FORM[name] for name in ("udata", "addrx", "loclistx", "rnglistx")}


@dataclass(frozen=True, slots=True)
class Unit:
    """A unit: entries from ``first`` to ``end``; references within it count from ``start``, its header."""

    start: int
    first: int
    end: int
    version: int
    address_size: int
    table: int


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry: its place in ``.debug_info``, tag, attributes by number; what follows begins at ``end``."""

    place: int
    tag: int
    attributes: dict[int, Value]
    children: bool
    end: int

    def number(self, attribute: str, otherwise: int = 0) -> int:
        """Return an attribute that is a number."""
        value = self.attributes.get(AT[attribute], otherwise)
        return value if isinstance(value, int) else otherwise

    def reference(self, attribute: str) -> int | None:
        """Return the place of the entry that an attribute refers to."""
        value = self.attributes.get(AT[attribute])
        return value if isinstance(value, int) else None

    @property
    def name(self) -> str | None:
        """Return the name, None for what has none."""
        value = self.attributes.get(AT["name"])
        return value if isinstance(value, str) and value else None


class Entries:
    """All entries of a file; what is damaged raises `IndexError`, `KeyError` or `ValueError`."""

    def __init__(self, sections: TypeSections) -> None:
        self._sections = sections
        self.data = sections.get(DWARF)
        self.order = "little" if sections.little_endian else "big"
        self.strings = sections.get(".debug_str")
        self._tables: dict[tuple[int, int, bool], dict[int, Abbreviation]] = {}
        self._signatures: dict[int, int] = {}
        self._bases: dict[int, int] = {}

    def _int(self, at: int, size: int) -> int:
        piece = self.data[at : at + size]
        if len(piece) != size:
            raise IndexError("an entry ends beyond the end of .debug_info")
        return int.from_bytes(piece, self.order)  # type: ignore[arg-type]

    @cached_property
    def units(self) -> list[Unit]:
        """Return the units in the order of the file."""
        units: list[Unit] = []
        at = 0
        while at < len(self.data):
            start, length, version = at, self._int(at, 4), self._int(at + 4, 2)
            if length >= 0xFFFFFFF0:
                raise ValueError("64-bit DWARF, which is not read")
            if not 2 <= version <= 5:
                raise ValueError(f"DWARF of version {version}, which is not read")
            at, first, kind = start + 4 + length, start + 11, 1
            if at > len(self.data):
                raise IndexError("a unit ends beyond the end of .debug_info")
            if version >= 5:
                kind, size, table = self._int(start + 6, 1), self._int(start + 7, 1), self._int(start + 8, 4)
                first = start + (24 if kind in _TYPE_UNITS else 20 if kind in _SKELETONS else 12)
                if kind in _TYPE_UNITS:
                    self._signatures[self._int(start + 12, 8)] = start + self._int(start + 20, 4)
            else:
                table, size = self._int(start + 6, 4), self._int(start + 10, 1)
            units.append(Unit(start, first, at, version, size, table))
        return units

    def abbreviations(self, unit: Unit) -> dict[int, Abbreviation]:
        """Return the kinds of entries of a unit."""
        key = (unit.table, unit.address_size, unit.version < 3)
        if key not in self._tables:
            data = self._sections.get(".debug_abbrev")
            self._tables[key] = read_abbreviations(data, unit.table, unit.address_size, unit.version)
        return self._tables[key]

    @cached_property
    def _starts(self) -> list[int]:
        return [unit.start for unit in self.units]

    def unit_of(self, place: int) -> Unit:
        """Return the unit that a place is in."""
        at = bisect_right(self._starts, place) - 1
        if at < 0 or not self.units[at].first <= place < self.units[at].end:
            raise ValueError(f"a reference to 0x{place:x}, where no entry is")
        return self.units[at]

    def at(self, place: int) -> Entry:
        """Return the entry at a place."""
        entry = self._read(self.unit_of(place), place)
        if entry is None:
            raise ValueError(f"a reference to 0x{place:x}, where no entry is")
        return entry

    def children(self, parent: Entry) -> Iterator[Entry]:
        """Yield the direct children of an entry."""
        if not parent.children:
            return
        unit, at = self.unit_of(parent.place), parent.end
        while (entry := self._read(unit, at)) is not None:
            yield entry
            at = self.behind(unit, entry)

    def behind(self, unit: Unit, entry: Entry) -> int:
        """Return the place behind an entry and all that is in it."""
        if not entry.children:
            return entry.end
        sibling = entry.reference("sibling")
        if sibling is not None and entry.end < sibling <= unit.end:
            return sibling
        depth, at = 1, entry.end
        while depth:
            inner = self._read(unit, at)
            at = at + 1 if inner is None else inner.end
            depth += -1 if inner is None else inner.children
        return at

    def _read(self, unit: Unit, place: int) -> Entry | None:
        """Return an entry of a unit; None for the end of a row of children."""
        if place >= unit.end:
            raise IndexError("an entry begins beyond the end of its unit")
        code, at = uleb(self.data, place)
        if code == 0:
            return None
        abbreviation = self.abbreviations(unit)[code]
        attributes: dict[int, Value] = {}
        for name, form, constant in abbreviation.attributes:
            attributes[name], at = self._value(unit, form, at, constant)
        return Entry(place, abbreviation.tag, attributes, abbreviation.children, at)

    def _value(self, unit: Unit, form: int, at: int, constant: int = 0) -> tuple[Value, int]:
        if (size := _PLAIN.get(form)) is not None or (size := _NUMBERS.get(form)) is not None:
            return self._int(at, size), at + size
        if (size := _LOCAL.get(form)) is not None:
            return unit.start + self._int(at, size), at + size
        if (size := _INDICES.get(form)) is not None:
            return self._indexed(unit, self._int(at, size)), at + size
        if (size := _COUNTED.get(form)) is not None:
            begin = at + size
            end = begin + self._int(at, size)
            return self.data[begin:end], end
        if form in _ULEB:
            return uleb(self.data, at)
        return _RARE[form](self, unit, at, constant)

    def _string(self, unit: Unit, at: int, constant: int) -> tuple[Value, int]:
        end = self.data.index(b"\0", at)
        return self.data[at:end].decode("utf-8", "replace"), end + 1

    def _block(self, unit: Unit, at: int, constant: int) -> tuple[Value, int]:
        count, at = uleb(self.data, at)
        return self.data[at : at + count], at + count

    def _index(self, unit: Unit, at: int, constant: int) -> tuple[Value, int]:
        number, at = uleb(self.data, at)
        return self._indexed(unit, number), at

    def _near(self, unit: Unit, at: int, constant: int) -> tuple[Value, int]:
        number, at = uleb(self.data, at)
        return unit.start + number, at

    def _far(self, unit: Unit, at: int, constant: int) -> tuple[Value, int]:
        size = unit.address_size if unit.version < 3 else 4
        return self._int(at, size), at + size

    def _signed(self, unit: Unit, at: int, constant: int) -> tuple[Value, int]:
        signature = self._int(at, 8)
        _ = self.units
        return self._signatures[signature], at + 8

    def _indirect(self, unit: Unit, at: int, constant: int) -> tuple[Value, int]:
        form, at = uleb(self.data, at)
        if form == FORM["indirect"]:
            raise ValueError("an indirect form of an indirect form")
        return self._value(unit, form, at)

    def text(self, section: str, at: int) -> str:
        """Return the string at a place of a section of strings."""
        data = self._sections.get(section)
        if at >= len(data):
            raise IndexError(f"a string begins beyond the end of {section}")
        return data[at : data.index(b"\0", at)].decode("utf-8", "replace")

    def _indexed(self, unit: Unit, number: int) -> str:
        """Return a string by its number in the unit's part of ``.debug_str_offsets``."""
        if unit.start not in self._bases:
            self._bases[unit.start] = 8  # while the unit's own entry is read
            entry = self._read(unit, unit.first)
            self._bases[unit.start] = entry.number("str_offsets_base", 8) if entry else 8
        offsets, at = self._sections.get(".debug_str_offsets"), self._bases[unit.start] + 4 * number
        if at + 4 > len(offsets):
            return ""  # of the unit's own entry, before its base is known
        return self.text(".debug_str", int.from_bytes(offsets[at : at + 4], self.order))  # type: ignore[arg-type]


_RARE: dict[int, Callable[[Entries, Unit, int, int], tuple[Value, int]]] = {
    FORM["strp"]: lambda self, u, at, _: (self.text(".debug_str", self._int(at, 4)), at + 4),
    FORM["line_strp"]: lambda self, u, at, _: (self.text(".debug_line_str", self._int(at, 4)), at + 4),
    FORM["flag_present"]: lambda self, u, at, _: (1, at),
    FORM["implicit_const"]: lambda self, u, at, constant: (constant, at),
    FORM["sdata"]: lambda self, u, at, _: sleb(self.data, at),
    FORM["addr"]: lambda self, u, at, _: (self._int(at, u.address_size), at + u.address_size),
    FORM["data16"]: lambda self, u, at, _: (self.data[at : at + 16], at + 16),
    FORM["string"]: Entries._string,
    FORM["block"]: Entries._block,
    FORM["exprloc"]: Entries._block,
    FORM["strx"]: Entries._index,
    FORM["ref_udata"]: Entries._near,
    FORM["ref_addr"]: Entries._far,
    FORM["ref_sig8"]: Entries._signed,
    FORM["indirect"]: Entries._indirect,
}
