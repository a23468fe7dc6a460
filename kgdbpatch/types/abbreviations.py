"""DWARF's abbreviations and forms: what a debugging entry is made of, and how many bytes it takes."""

from __future__ import annotations

from dataclasses import dataclass, field

from elftools.dwarf.enums import ENUM_DW_AT, ENUM_DW_FORM, ENUM_DW_TAG

__all__ = ["AT", "FORM", "TAG", "Abbreviation", "read_abbreviations", "sleb", "uleb"]

TAG: dict[str, int] = {k.removeprefix("DW_TAG_"): v for k, v in ENUM_DW_TAG.items() if isinstance(v, int)}
AT: dict[str, int] = {k.removeprefix("DW_AT_"): v for k, v in ENUM_DW_AT.items() if isinstance(v, int)}
FORM: dict[str, int] = {k.removeprefix("DW_FORM_"): v for k, v in ENUM_DW_FORM.items() if isinstance(v, int)}
_IMPLICIT = FORM["implicit_const"]

# bytes that a form takes, where that is always the same; offsets are those of 32-bit DWARF
_SIZES = {"data1": 1, "ref1": 1, "flag": 1, "strx1": 1, "addrx1": 1, "flag_present": 0, "implicit_const": 0}
_SIZES |= {"data2": 2, "ref2": 2, "strx2": 2, "addrx2": 2, "strx3": 3, "addrx3": 3}
_SIZES |= {"data4": 4, "ref4": 4, "strx4": 4, "addrx4": 4, "ref_sup4": 4}
_SIZES |= {"data8": 8, "ref8": 8, "ref_sig8": 8, "ref_sup8": 8, "data16": 16}
_SIZES |= {"strp": 4, "line_strp": 4, "sec_offset": 4, "strp_sup": 4, "GNU_ref_alt": 4, "GNU_strp_alt": 4}
_FIXED = {FORM[name]: size for name, size in _SIZES.items() if name in FORM}


def uleb(data: bytes, at: int) -> tuple[int, int]:
    """Return the unsigned LEB128 number at a place, and the place behind it."""
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 70:
            raise ValueError("a number of more than ten bytes")


def sleb(data: bytes, at: int) -> tuple[int, int]:
    """Return the signed LEB128 number at a place, and the place behind it."""
    start = at
    value, at = uleb(data, at)
    bits = 7 * (at - start)
    return (value - (1 << bits) if value >> (bits - 1) & 1 else value), at


@dataclass(frozen=True, slots=True)
class Abbreviation:
    """One kind of entry: its tag, whether children follow, and its attributes (name, form, constant).

    ``size`` is how many bytes they take, -1 where that differs; ``places`` are the attributes at a place that
    is always the same: (offset behind the code, form) by attribute.
    """

    tag: int
    children: bool
    attributes: tuple[tuple[int, int, int], ...]
    size: int
    places: dict[int, tuple[int, int]] = field(compare=False)


def read_abbreviations(data: bytes, at: int, address_size: int, version: int) -> dict[int, Abbreviation]:
    """Return the table of abbreviations at an offset of ``.debug_abbrev``, by code."""
    sizes = {**_FIXED, FORM["addr"]: address_size, FORM["ref_addr"]: address_size if version < 3 else 4}
    found: dict[int, Abbreviation] = {}
    while True:
        code, at = uleb(data, at)
        if code == 0:
            return found
        tag, at = uleb(data, at)
        children = data[at] != 0
        at += 1
        attributes: list[tuple[int, int, int]] = []
        while True:
            name, at = uleb(data, at)
            form, at = uleb(data, at)
            constant = 0
            if form == _IMPLICIT:
                constant, at = sleb(data, at)
            if name == form == 0:
                break
            attributes.append((name, form, constant))
        size, places = 0, {}
        for name, form, _ in attributes:
            places[name] = (size, form)
            if form not in sizes:
                size = -1
                break
            size += sizes[form]
        found[code] = Abbreviation(tag, children, tuple(attributes), size, places)
