"""Symbols and functions of a kernel as arrays: Linux has 50,000, of which a command wants a few.

Rows are in the order in which symbols name functions (`Contents`), functions in their addresses'.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, chain
from operator import attrgetter
from typing import Any, TypeVar, overload

import numpy as np
import numpy.typing as npt

from kgdbpatch.image.model import Function, Symbol

__all__ = ["FunctionTable", "SymbolTable"]

_Row = TypeVar("_Row")
_KINDS = ("function", "label", "object", "absolute")


def _numbers(values: Iterable[int]) -> bytes:
    return np.fromiter(values, np.uint32).tobytes()


def _view(raw: bytes) -> memoryview[int]:
    return memoryview(raw).cast("I")


def _encoded(names: Iterable[str]) -> list[bytes]:
    return [name.encode("utf-8", "surrogatepass") for name in names]


class _Names:
    """Names by number: UTF-8, one behind the other, each with a NUL."""

    def __init__(self, text: bytes, ends: bytes) -> None:
        self.text, self.ends = text, ends
        self._ends = _view(ends)

    @classmethod
    def of(cls, names: Sequence[bytes]) -> _Names:
        ends = np.cumsum(np.fromiter(map(len, names), np.uint32, len(names)) + 1, dtype=np.uint32)
        return cls(b"\0".join((*names, b"")), ends.tobytes())

    def raw(self, number: int) -> bytes:
        begin = self._ends[number - 1] if number else 0
        return self.text[begin : self._ends[number] - 1]

    def __getitem__(self, number: int) -> str:
        return self.raw(number).decode("utf-8", "surrogatepass")

    def all(self) -> list[str]:
        found = self.text.decode("utf-8", "surrogatepass").split("\0")
        if len(found) != len(self._ends) + 1:  # a NUL in a name
            return [self[number] for number in range(len(self._ends))]
        return found[:-1]


class _Table(Sequence[_Row]):
    """Rows, each made of ``columns`` where it is wanted."""

    columns: tuple[Any, ...]
    _address: memoryview[int]

    def _make(self, number: int) -> _Row:
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self)} rows)"

    def __len__(self) -> int:
        return len(self._address)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, type(self)):
            return self.columns == other.columns
        return list(self) == list(other) if isinstance(other, Sequence) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    @overload
    def __getitem__(self, number: int) -> _Row: ...
    @overload
    def __getitem__(self, number: slice) -> list[_Row]: ...
    def __getitem__(self, number: int | slice) -> _Row | list[_Row]:
        """Return a row by its number."""
        if isinstance(number, slice):
            return [self[one] for one in range(*number.indices(len(self)))]
        return self._make(range(len(self))[number])


class SymbolTable(_Table[Symbol]):
    """The symbols of one kernel."""

    def __init__(self, columns: tuple[Any, ...]) -> None:
        self.columns = columns
        text, ends, address, size, section, kind, exported, by_name, by_address, sections = columns
        self.names = _Names(text, ends)
        self._address, self._size, self._section = _view(address), _view(size), _view(section)
        self._kind, self._exported = kind, exported
        self._by_name, self._by_address = _view(by_name), _view(by_address)
        self._sections: tuple[str, ...] = tuple(sections)

    @classmethod
    def of(cls, symbols: Sequence[Symbol]) -> SymbolTable:
        """Return the table of some symbols, in their order."""
        return cls.of_columns(*(zip(*symbols, strict=True) if symbols else ((),) * len(Symbol._fields)))

    @classmethod
    def of_columns(
        cls,
        called: Sequence[str],
        addresses: Sequence[int],
        sizes: Sequence[int],
        owners: Sequence[str],
        kinds: Sequence[str],
        exported: Sequence[bool],
    ) -> SymbolTable:
        """Return the table of the symbols of which these are the fields, in the order of `Symbol`."""
        encoded = _encoded(called)
        names = _Names.of(encoded)
        sections = {name: number for number, name in enumerate(dict.fromkeys(owners))}
        address = np.fromiter(addresses, np.uint32, len(called))
        section = np.fromiter(map(sections.__getitem__, owners), np.uint32, len(called))
        ascending = np.argsort(address, kind="stable").astype(np.uint32)
        placed = ascending[section[ascending] != sections[""]] if "" in sections else ascending
        return cls(
            (
                names.text,
                names.ends,
                address.tobytes(),
                _numbers(sizes),
                section.tobytes(),
                bytes(map({kind: number for number, kind in enumerate(_KINDS)}.__getitem__, kinds)),
                bytes(exported),
                _numbers(sorted(range(len(called)), key=encoded.__getitem__)),
                placed.tobytes(),
                list(sections),
            )
        )

    def _make(self, number: int) -> Symbol:
        return Symbol(
            self.names[number],
            self._address[number],
            self._size[number],
            self._sections[self._section[number]],
            _KINDS[self._kind[number]],
            bool(self._exported[number]),
        )

    def __iter__(self) -> Iterator[Symbol]:
        sections = map(self._sections.__getitem__, self._section)
        kinds, exported = map(_KINDS.__getitem__, self._kind), map(bool, self._exported)
        columns = (self.names.all(), self._address, self._size, sections, kinds, exported)
        return map(Symbol._make, zip(*columns, strict=True))

    def places(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return the addresses and sizes."""
        address, size = (np.frombuffer(self.columns[at], np.uint32).astype(np.int64) for at in (2, 3))
        return address, size

    def of_kind(self, kind: str) -> npt.NDArray[np.bool_]:
        """Tell which symbols are of a kind."""
        return np.equal(np.frombuffer(self._kind, np.uint8), _KINDS.index(kind))

    def of_section(self, name: str) -> npt.NDArray[np.bool_]:
        """Tell which symbols are in a section of a name."""
        number = self._sections.index(name) if name in self._sections else len(self._sections)
        return np.equal(np.frombuffer(self._section, np.uint32), number)

    def called(self, name: str) -> list[Symbol]:
        """Return the symbols of a name, in the order of the table."""
        wanted, rows, raw = name.encode("utf-8", "surrogatepass"), self._by_name, self.names.raw
        first = bisect_left(rows, wanted, key=raw)
        found = []
        while first < len(rows) and raw(rows[first]) == wanted:
            found.append(self[rows[first]])
            first += 1
        return found

    def last(self, names: Iterable[str]) -> dict[str, Symbol]:
        """Return those of some names that there are, each with its last symbol."""
        found = {name: self.called(name) for name in names}
        return {name: symbols[-1] for name, symbols in found.items() if symbols}

    def beginning(self, prefix: str) -> list[Symbol]:
        """Return the symbols whose names begin with a prefix, in the order of the table."""
        wanted, rows, raw = prefix.encode("utf-8", "surrogatepass"), self._by_name, self.names.raw
        first = bisect_left(rows, wanted, key=raw)
        behind = bisect_right(rows, wanted, first, key=lambda number: raw(number)[: len(wanted)])
        return [self[number] for number in sorted(rows[first:behind])]

    def matching(self, pattern: re.Pattern[str]) -> list[Symbol]:
        """Return the symbols whose whole names a pattern fits, in the order of the table."""
        return [self[number] for number, name in enumerate(self.names.all()) if pattern.fullmatch(name)]

    def before(self, address: int) -> Symbol | None:
        """Return the last of the symbols in sections that begin at or before an address."""
        index = bisect_right(self._by_address, address, key=self._address.__getitem__) - 1
        return None if index < 0 else self[self._by_address[index]]


class FunctionTable(_Table[Function]):
    """The functions of one kernel, ascending; ``sections`` are the names of those that hold some."""

    def __init__(self, columns: tuple[Any, ...]) -> None:
        self.columns = columns
        text, ends, address, size, last, first_name, section, guessed, sections = columns
        self._names = _Names(text, ends)
        self._address, self._size, self._last = _view(address), _view(size), _view(last)
        self._first_name, self._section, self._guessed = _view(first_name), _view(section), guessed
        self.sections: tuple[str, ...] = tuple(sections)
        self._made: dict[int, Function] = {}

    @classmethod
    def of(cls, functions: Sequence[Function]) -> FunctionTable:
        """Return the table of some functions, which are sorted by address."""
        names = [(f.name, *f.aliases) for f in functions]
        address, size = ([attrgetter(name)(f) for f in functions] for name in ("address", "size"))
        owners, guessed = [f.section for f in functions], [f.guessed for f in functions]
        return cls.of_columns(names, address, size, owners, guessed)

    @classmethod
    def of_columns(
        cls,
        called: Sequence[Sequence[str]],
        addresses: npt.ArrayLike,
        sizes: npt.ArrayLike,
        owners: Sequence[str],
        guessed: Sequence[bool] = (),
    ) -> FunctionTable:
        """Return the table of functions, given their names, places, sizes and sections; none is guessed."""
        names = _Names.of(_encoded(chain.from_iterable(called)))
        sections = {name: number for number, name in enumerate(dict.fromkeys(owners))}
        address, size = np.asarray(addresses, np.uint32), np.asarray(sizes, np.uint32)
        return cls(
            (
                names.text,
                names.ends,
                address.tobytes(),
                size.tobytes(),
                np.maximum.accumulate(address + size - 1).tobytes(),
                _numbers(accumulate(map(len, called), initial=0)),
                _numbers(map(sections.__getitem__, owners)),
                bytes(guessed) or bytes(len(called)),
                list(sections),
            )
        )

    def _make(self, number: int) -> Function:
        if number not in self._made:
            names = range(self._first_name[number], self._first_name[number + 1])
            first, *aliases = map(self._names.__getitem__, names)
            self._made[number] = Function(
                first,
                self._address[number],
                self._size[number],
                tuple(aliases),
                self.sections[self._section[number]],
                bool(self._guessed[number]),
            )
        return self._made[number]

    def named(self, pattern: re.Pattern[str]) -> list[Function]:
        """Return the functions of which a name as a whole fits a pattern."""
        names = enumerate(self._names.all())
        fitting = (number for number, name in names if pattern.fullmatch(name))
        numbers = (bisect_right(self._first_name, number) - 1 for number in fitting)
        return [self[number] for number in dict.fromkeys(numbers)]

    def spans(self) -> list[tuple[int, int]]:
        """Return the functions' addresses and sizes."""
        return list(zip(self._address, self._size, strict=True))

    def around(self, address: int) -> Function | None:
        """Return the innermost function that an address lies in."""
        index = bisect_right(self._address, address) - 1
        while index >= 0 and self._last[index] >= address:
            if self._address[index] <= address < self._address[index] + self._size[index]:
                return self[index]
            index -= 1
        return None
