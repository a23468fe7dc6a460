"""Make shapes of C's types."""

from __future__ import annotations

from kgdbpatch.types.declare import spelling
from kgdbpatch.types.model import Array, Base, Enum, Pointer, Record, Type, stripped
from kgdbpatch.variables.shape import Field, Shape

__all__ = ["shape_of"]

_DEEP = 64  # structures and arrays in each other: more is no program's
_CHARACTERS = ("char",)
_NUMBERS = {"signed": "signed", "unsigned": "unsigned", "bool": "bool"}


def shape_of(type_: Type, depth: int = 0) -> Shape:
    """Return a type's shape; raise `ValueError` for one that is made of itself."""
    if depth > _DEEP:
        raise ValueError("a type that is made of itself")
    plain, text, size = stripped(type_), spelling(type_), type_.size or 0
    if isinstance(plain, Base):
        kind = "char" if plain.name in _CHARACTERS else _NUMBERS.get(plain.encoding, "bytes")
        return Shape(text, size, kind)
    if isinstance(plain, Pointer):
        return Shape(text, size, "pointer")
    if isinstance(plain, Enum):
        return Shape(text, size, "enum", values=plain.values)
    if isinstance(plain, Array):
        element = shape_of(plain.target, depth + 1)
        return Shape(text, size, "array", element, plain.count or 0)
    if isinstance(plain, Record):
        fields = tuple(
            Field(one.name or "", one.bit, one.bits or 0, shape_of(one.type, depth + 1))
            for one in plain.named()
        )
        return Shape(text, size, plain.kind, fields=fields)
    return Shape(text, size, "bytes")
