"""What must be said to the compiler so that it lays a structure out as it is: padding, packed, aligned.

The rules are those of GCC on 32-bit PowerPC: a value is aligned to its size, a bit-field does not cross a
unit of its type. Whatever differs from them is said.
"""

from __future__ import annotations

from dataclasses import dataclass

from kgdbpatch.types.model import (
    Array,
    Base,
    Enum,
    Member,
    Pointer,
    Qualified,
    Record,
    Type,
    Typedef,
    stripped,
)

__all__ = ["Placed", "Shape", "Shapes"]


@dataclass(frozen=True)
class Placed:
    """A member behind ``padding`` bits; ``packed`` and ``aligned`` (0: not) are said of it."""

    member: Member
    padding: int
    packed: bool
    aligned: int


@dataclass(frozen=True)
class Shape:
    """How a structure is to be written: ``padding`` bytes at its end; what is said of the type."""

    members: tuple[Placed, ...]
    padding: int
    packed: bool
    aligned: int
    alignment: int

    @property
    def corrections(self) -> int:
        """Return how many things have to be said of members."""
        return sum(bool(one.padding) + one.packed for one in self.members) + bool(self.padding)


class Shapes:
    """Shapes of structures and unions, each reckoned once."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, bool], tuple[Record, Shape]] = {}

    def alignment(self, type_: Type) -> int:
        """Return the bytes that the compiler aligns a type to, as we write it."""
        if isinstance(type_, Typedef):
            return type_.alignment or self.alignment(type_.target)
        if isinstance(type_, Qualified):
            return self.alignment(type_.target)
        if isinstance(type_, Array):
            return type_.size or 1 if type_.vector else self.alignment(type_.target)
        if isinstance(type_, Record):
            return self.of(type_).alignment
        if isinstance(type_, Base):
            size = type_.bytes // 2 if type_.encoding == "complex" else type_.bytes
            return max(1, size)
        return max(1, type_.size or 1) if isinstance(type_, (Pointer, Enum)) else 1

    def of(self, record: Record, packed: bool = False) -> Shape:
        """Return the shape of a structure; ``packed``: one that may stand anywhere."""
        key = (id(record), packed)
        if key not in self._known:
            self._known[key] = (record, self._reckoned(record, packed))
        return self._known[key][1]

    def _reckoned(self, record: Record, packed: bool) -> Shape:
        tried = (self._try(record, one) for one in ((True,) if packed else (False, True)))
        found = [one for one in tried if one is not None]
        if not found:
            raise ValueError(f"no C gives {record.kind} {record.tag or '{...}'} the layout that it has")
        return min(found, key=lambda one: one.corrections > 0)

    def _try(self, record: Record, packed: bool) -> Shape | None:
        """Return a shape of a record; None where the compiler would make it larger than it is."""
        placed: list[Placed] = []
        union = record.kind == "union"
        cursor, last, alignment = 0, 0, 1
        for member in record.members:
            one, needs = self._place(member, 0 if union else cursor, packed)
            if one is None:
                return None
            placed.append(one)
            alignment = max(alignment, needs)
            width = 8 * (member.type.size or 0) if member.bits is None else member.bits
            cursor = member.bit + width
            last = max(last, cursor)
        aligned = record.alignment if record.alignment > alignment else 0
        alignment = max(alignment, aligned)
        taken = -(-last // 8)
        size = -(-taken // alignment) * alignment
        padding = 0
        if size != record.bytes:
            if size > record.bytes or record.bytes % alignment or union:
                return None
            padding = record.bytes - taken
        return Shape(tuple(placed), padding, packed, aligned, alignment)

    def _place(self, member: Member, cursor: int, packed: bool) -> tuple[Placed | None, int]:
        """Return how a member gets to its place behind ``cursor``, and the alignment that it asks for."""
        natural = self.alignment(member.type)
        if member.bits is None:
            ways = [(packed, member.alignment or 1 if packed else max(natural, member.alignment))]
            ways += [] if packed else [(True, member.alignment or 1)]
        else:
            ways = [(packed, 1 if packed else natural)] + ([] if packed else [(True, 1)])
        for said, alignment in ways:
            for padding in (0, member.bit - cursor):
                if padding >= 0 and self._lands(member, cursor + padding, said, alignment) == member.bit:
                    aligned = member.alignment if member.alignment > (1 if said else natural) else 0
                    return Placed(member, padding, said and not packed, aligned), alignment
        return None, 0

    def _lands(self, member: Member, cursor: int, packed: bool, alignment: int) -> int:
        """Return the bit where the compiler puts a member that follows ``cursor``."""
        unit = 8 * alignment
        if member.bits is None:
            return -(-cursor // unit) * unit
        if packed:
            return cursor
        size = 8 * (stripped(member.type).size or 0)
        crosses = -(-(cursor % unit + member.bits) // unit) > size // unit
        return -(-cursor // unit) * unit if crosses else cursor
