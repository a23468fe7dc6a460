"""C's types, as debug information tells them; what a type refers to is read when it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property

__all__ = [
    "Array",
    "Base",
    "Enum",
    "Function",
    "Member",
    "Parameter",
    "Pointer",
    "Qualified",
    "Record",
    "Type",
    "Typedef",
    "Void",
    "stripped",
]


@dataclass(eq=False)
class Type:
    """Any type; ``size`` in bytes, None where it has none (``void``, functions, what is only declared)."""

    @property
    def size(self) -> int | None:
        """Return the bytes that a value takes."""
        return None


@dataclass(eq=False)
class Void(Type):
    """``void``."""


@dataclass(eq=False)
class Base(Type):
    """An arithmetic type; ``encoding`` is ``signed``, ``unsigned``, ``bool``, ``float`` or ``complex``."""

    name: str
    bytes: int
    encoding: str

    @property
    def size(self) -> int:
        """Return the bytes that a value takes."""
        return self.bytes


@dataclass(eq=False)
class _Referring(Type):
    """What is made of another type, which ``fetch`` returns."""

    fetch: Callable[[], Type] = field(repr=False)

    @cached_property
    def target(self) -> Type:
        """What it is made of."""
        return self.fetch()


@dataclass(eq=False)
class Pointer(_Referring):
    """A pointer to ``target``."""

    bytes: int = 4

    @property
    def size(self) -> int:
        """Return the bytes that a value takes."""
        return self.bytes


@dataclass(eq=False)
class Qualified(_Referring):
    """``target``, which is ``const``, ``volatile``, ``restrict`` or ``_Atomic``."""

    qualifier: str = "const"

    @property
    def size(self) -> int | None:
        """Return the bytes that a value takes."""
        return self.target.size


@dataclass(eq=False)
class Typedef(_Referring):
    """Another name of ``target``; ``alignment`` is what it was given, 0 where it was not."""

    name: str = ""
    alignment: int = 0

    @property
    def size(self) -> int | None:
        """Return the bytes that a value takes."""
        return self.target.size


@dataclass(eq=False)
class Array(_Referring):
    """``count`` elements ``target``, None where that is open; ``vector``: the compiler's own kind."""

    count: int | None = None
    vector: bool = False

    @property
    def size(self) -> int | None:
        """Return the bytes that it takes."""
        each = self.target.size
        return None if each is None else each * (self.count or 0)


@dataclass(frozen=True)
class Member:
    """A member of a structure or union, by bits from its begin in the order of memory.

    ``name`` is None for an unnamed structure or union, whose members are its owner's; ``bits`` is the width
    of a bit-field, else None; ``alignment`` is what it was given, 0 where it was not.
    """

    name: str | None
    type: Type
    bit: int
    bits: int | None = None
    alignment: int = 0

    @property
    def offset(self) -> int:
        """Return the byte that it begins in."""
        return self.bit // 8


@dataclass(eq=False)
class Record(Type):
    """A structure or union (``kind``); without ``complete`` no more than its ``tag`` is known."""

    kind: str
    tag: str | None
    bytes: int
    complete: bool
    fetch: Callable[[], tuple[Member, ...]] = field(repr=False)
    alignment: int = 0

    @property
    def size(self) -> int | None:
        """Return the bytes that it takes."""
        return self.bytes if self.complete else None

    @cached_property
    def members(self) -> tuple[Member, ...]:
        """The members, in the order of the source."""
        return self.fetch()

    def named(self) -> Iterator[Member]:
        """Yield the named members, those of unnamed ones in it as well, from its own begin."""
        for member in self.members:
            inner = stripped(member.type)
            if member.name is not None:
                yield member
            elif isinstance(inner, Record):
                for one in inner.named():
                    yield Member(one.name, one.type, member.bit + one.bit, one.bits, one.alignment)


@dataclass(eq=False)
class Enum(Type):
    """An enumeration: values by name."""

    tag: str | None
    bytes: int
    complete: bool
    values: tuple[tuple[str, int], ...]

    @property
    def size(self) -> int | None:
        """Return the bytes that a value takes."""
        return self.bytes if self.complete else None


@dataclass(frozen=True)
class Parameter:
    """A parameter; its name is None where it has none."""

    name: str | None
    type: Type


@dataclass(eq=False)
class Function(Type):
    """A function, or the type of one (no ``name``): what it returns, what it takes."""

    fetch: Callable[[], tuple[Type, tuple[Parameter, ...]]] = field(repr=False)
    name: str | None = None
    variadic: bool = False
    prototyped: bool = True

    @cached_property
    def _parts(self) -> tuple[Type, tuple[Parameter, ...]]:
        return self.fetch()

    @property
    def returns(self) -> Type:
        """Return the type of its result."""
        return self._parts[0]

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """Return its parameters."""
        return self._parts[1]


def stripped(type_: Type, typedefs: bool = True) -> Type:
    """Return what is behind qualifiers, and behind typedefs; raise `ValueError` for one of itself."""
    seen = 0
    while isinstance(type_, Qualified) or (typedefs and isinstance(type_, Typedef)):
        type_ = type_.target
        seen += 1
        if seen > 1000:
            raise ValueError("a type that is made of itself")
    return type_
