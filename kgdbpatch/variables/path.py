"""Find a variable or a part of one by what is written: ``hits``, ``probe::count``, ``stats.count[3]``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from kgdbpatch.errors import Misuse, UnknownSymbol
from kgdbpatch.image.near import close_names
from kgdbpatch.variables.note import Note, Variable
from kgdbpatch.variables.shape import Shape

__all__ = ["Place", "full_name", "locate", "name_at"]

_PATH = re.compile(r"\s*([A-Za-z_$][\w$]*(?:::[A-Za-z_$][\w$]*)?)\s*(.*)", re.DOTALL)
_STEP = re.compile(r"\.\s*([A-Za-z_$][\w$]*)\s*|\[\s*(0[xX][0-9a-fA-F]+|[0-9]+)\s*\]\s*")


class Place(NamedTuple):
    """A variable's part: bytes behind the payload's begin, type; of a bit-field its first bit and width."""

    variable: Variable
    offset: int
    shape: Shape
    bit: int = 0
    bits: int = 0


def full_name(variable: Variable, every: Sequence[Variable]) -> str:
    """Return the shortest name that means a variable and no other."""
    same = [one for one in every if one.name == variable.name]
    return variable.name if len(same) == 1 or not variable.scope else f"{variable.scope}::{variable.name}"


def _variable(name: str, note: Note, where: str) -> Variable:
    plain = [one for one in note.variables if name in (one.name, f"{one.scope}::{one.name}")]
    kept = [one for one in plain if one.offset is not None]
    outer = [one for one in kept if one.exported]
    if len(kept) > 1 and not outer:
        names = ", ".join(sorted(full_name(one, note.variables) for one in kept))
        raise Misuse(f"'{name}' is ambiguous in {where}: {names}")
    if kept:
        return (outer or kept)[0]
    if plain:
        raise Misuse(
            f"the compiler made a constant of '{name}' of {where}, or dropped it, since the payload never "
            "changes or never reads it: declare it volatile, or not static"
        )
    known = tuple(full_name(one, note.variables) for one in note.variables if one.offset is not None)
    raise UnknownSymbol(name, where, close_names(name, known) or known[:3])


def locate(path: str, note: Note, where: str) -> Place:
    """Return what is meant; raise `UnknownSymbol` with near names, or `Misuse`. ``where`` names the patch."""
    match = _PATH.fullmatch(path)
    if match is None:
        raise Misuse(f"'{path}' is no variable: write name, name.member, name[3] or function::name")
    variable = _variable(match[1], note, where)
    assert variable.offset is not None
    place, rest, done = Place(variable, variable.offset, variable.shape), match[2], match[1]
    while rest:
        step = _STEP.match(rest)
        if step is None:
            raise Misuse(f"'{path}' is no variable: '{rest}' is neither .member nor [number]")
        place = _member(place, step[1], done, where) if step[1] else _element(place, int(step[2], 0), done)
        done, rest = done + step[0].strip(), rest[step.end() :]
    return place


def _member(place: Place, name: str, done: str, where: str) -> Place:
    if place.shape.kind not in ("struct", "union"):
        raise Misuse(f"'{done}' has no members: it is {place.shape.text}")
    field = next((one for one in place.shape.fields if one.name == name), None)
    if field is None:
        raise UnknownSymbol(
            f"{done}.{name}", where, close_names(name, [one.name for one in place.shape.fields])
        )
    return Place(place.variable, place.offset + field.bit // 8, field.shape, field.bit % 8, field.bits)


def _element(place: Place, number: int, done: str) -> Place:
    element = place.shape.element
    if element is None:
        raise Misuse(f"'{done}' has no elements: it is {place.shape.text}")
    if number >= place.shape.count:
        raise Misuse(f"'{done}' has no element {number}: they are 0 to {place.shape.count - 1}")
    return Place(place.variable, place.offset + number * element.size, element)


def name_at(note: Note, offset: int) -> str | None:
    """Return what a payload has so many bytes behind its begin, as `locate` takes it; None for nothing."""
    for variable in note.variables:
        at = variable.offset
        if at is not None and at <= offset < at + variable.shape.size:
            name, rest = full_name(variable, note.variables), offset - at
            return name + _part_at(variable.shape, rest)
    return None


def _part_at(shape: Shape, offset: int) -> str:
    if shape.element is not None and shape.element.size and not shape.is_text:
        number, rest = divmod(offset, shape.element.size)
        return f"[{number}]{_part_at(shape.element, rest)}"
    for field in shape.fields:
        start = field.bit // 8
        if not field.bits and start <= offset < start + field.shape.size:
            return f".{field.name}{_part_at(field.shape, offset - start)}"
    return ""
