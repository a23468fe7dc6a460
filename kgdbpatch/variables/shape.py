"""Types of variables as a patch keeps them: what it takes to read, write and show a value; as plain lists."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["Field", "Shape", "bytes_shape", "from_rows", "rows_of"]


@dataclass(frozen=True, slots=True)
class Field:
    """A member of a structure or union: where it begins, in bits; ``bits`` is a bit-field's width, else 0."""

    name: str
    bit: int
    bits: int
    shape: Shape


@dataclass(frozen=True, slots=True)
class Shape:
    """A type: as C spells it, bytes, and ``kind``.

    That is ``signed``, ``unsigned``, ``bool``, ``char``, ``pointer``, ``enum`` (named ``values``), ``array``
    (``count`` times ``element``), ``struct`` or ``union`` (``fields``), or ``bytes`` for all else.
    """

    text: str
    size: int
    kind: str
    element: Shape | None = None
    count: int = 0
    fields: tuple[Field, ...] = ()
    values: tuple[tuple[str, int], ...] = ()

    @property
    def is_text(self) -> bool:
        """Whether it is an array of characters."""
        return self.element is not None and self.element.kind == "char"


def bytes_shape(size: int) -> Shape:
    """Return the shape of what nothing is known of but its size."""
    return Shape(f"unsigned char [{size}]", size, "bytes")


def rows_of(shapes: Iterable[Shape]) -> tuple[list[list[Any]], list[int]]:
    """Return rows, each a shape that refers to earlier ones by number, and the numbers of ``shapes``."""
    rows: list[list[Any]] = []
    numbers: dict[Shape, int] = {}

    def number(shape: Shape) -> int:
        if shape not in numbers:
            element = -1 if shape.element is None else number(shape.element)
            fields = [[one.name, one.bit, one.bits, number(one.shape)] for one in shape.fields]
            rows.append([shape.text, shape.size, shape.kind, element, shape.count, fields, shape.values])
            numbers[shape] = len(rows) - 1
        return numbers[shape]

    found = [number(shape) for shape in shapes]
    return rows, found


def from_rows(rows: Sequence[Sequence[Any]]) -> list[Shape]:
    """Return the shapes of `rows_of`; raise `ValueError`, `LookupError` or `TypeError` for no such rows."""
    made: list[Shape] = []
    for text, size, kind, element, count, fields, values in rows:
        members = tuple(Field(name, bit, bits, made[place]) for name, bit, bits, place in fields)
        inner = made[element] if element >= 0 else None
        made.append(Shape(text, size, kind, inner, count, members, tuple((n, v) for n, v in values)))
    return made
