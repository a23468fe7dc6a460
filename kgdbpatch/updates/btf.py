"""Read types from BTF as a compiler writes it, and tell which structures and prototypes differ."""

from __future__ import annotations

import struct
from functools import lru_cache

from kgdbpatch.errors import BadPatch

__all__ = ["Types", "changed_prototypes", "changed_structures"]

_MAGIC = 0xEB9F
_HEADER = struct.Struct(">HBBIIIII")
_TYPE = struct.Struct(">III")
_INT, _PTR, _ARRAY, _STRUCT, _UNION, _ENUM, _FWD, _TYPEDEF = range(1, 9)
_VOLATILE, _CONST, _RESTRICT, _FUNC, _PROTO, _VAR, _DATASEC, _FLOAT, _TAG, _TYPE_TAG, _ENUM64 = range(9, 20)
_EACH = {_STRUCT: 12, _UNION: 12, _ENUM: 8, _PROTO: 8, _DATASEC: 12, _ENUM64: 12}
_FIXED = {_INT: 4, _ARRAY: 12, _VAR: 4, _TAG: 4}
_WORDS = {_STRUCT: "struct", _UNION: "union", _ENUM: "enum", _ENUM64: "enum", _FWD: "struct"}
_DEEP = 6  # structures without names within others


class Types:
    """The types of an object, by number: (name, kind, flag, size or type, what follows)."""

    def __init__(self, data: bytes) -> None:
        try:
            self._read(data)
        except (struct.error, ValueError, IndexError, KeyError) as error:
            raise BadPatch(f"the compiler's types (.BTF) cannot be read: {error}") from error
        self.described = lru_cache(maxsize=None)(self._described)

    def _read(self, data: bytes) -> None:
        magic, _, _, length, at, size, texts, texts_size = _HEADER.unpack_from(data)
        if magic != _MAGIC:
            raise ValueError("no BTF of a big-endian machine")
        self._texts = data[length + texts : length + texts + texts_size]
        self.rows: list[tuple[int, int, int, int, tuple[int, ...]]] = [(0, 0, 0, 0, ())]
        at, end = length + at, length + at + size
        while at < end:
            name, info, value = _TYPE.unpack_from(data, at)
            kind, count = info >> 24 & 31, info & 0xFFFF
            room = _EACH.get(kind, 0) * count + _FIXED.get(kind, 0)
            more = struct.unpack_from(f">{room // 4}I", data, at + 12)
            self.rows.append((name, kind, info >> 31, value, more))
            at += 12 + room

    def text(self, place: int) -> str:
        """Return the name at a place of the names."""
        return self._texts[place : self._texts.index(b"\0", place)].decode("utf-8", "replace")

    def structures(self) -> dict[str, int]:
        """Return the named structures, unions and enumerations, as in C, with their numbers."""
        return {
            f"{_WORDS[kind]} {self.text(name)}": number
            for number, (name, kind, _, _, _) in enumerate(self.rows)
            if kind in (_STRUCT, _UNION, _ENUM, _ENUM64) and name
        }

    def prototypes(self) -> dict[str, str]:
        """Return the functions with what they take and give."""
        return {
            self.text(name): self.described(value, 0)
            for name, kind, _, value, _ in self.rows
            if kind == _FUNC and name
        }

    def size(self, number: int) -> int:
        """Return the bytes of a structure."""
        return self.rows[number][3]

    def members(self, number: int) -> list[str]:
        """Return what a structure has, each with its place in bytes, or what an enumeration has."""
        _, kind, flag, _, more = self.rows[number]
        if kind not in (_STRUCT, _UNION):
            step = 2 if kind == _ENUM else 3
            rows = (more[at : at + step] for at in range(0, len(more), step))
            return [f"{self.text(row[0])} = {row[1]:#x}" for row in rows]
        found = []
        for at in range(0, len(more), 3):
            name, inner, place = more[at : at + 3]
            bits, place = (place >> 24, place & 0xFFFFFF) if flag else (0, place)
            where = (
                f"{place // 8}"
                + (f".{place % 8}" if place % 8 or bits else "")
                + (f":{bits}" if bits else "")
            )
            found.append(f"{self.described(inner, 0)} {self.text(name)} at {where}".replace("  ", " "))
        return found

    def _described(self, number: int, deep: int) -> str:
        """Return a type as C nearly has it; structures with names by their names."""
        if number >= len(self.rows) or deep > 64:
            return "?"
        name, kind, flag, value, more = self.rows[number]
        if number == 0:
            return "void"
        if kind == _PTR:
            return f"{self._described(value, deep + 1)} *"
        if kind in (_CONST, _VOLATILE, _RESTRICT):
            word = {_CONST: "const", _VOLATILE: "volatile", _RESTRICT: "restrict"}[kind]
            return f"{word} {self._described(value, deep + 1)}"
        if kind == _ARRAY:
            return f"{self._described(more[0], deep + 1)}[{more[2]}]"
        if kind == _PROTO:
            taken = (self._described(more[at + 1], deep + 1) for at in range(0, len(more), 2))
            return f"{self._described(value, deep + 1)} ({', '.join(taken) or 'void'})"
        if kind == _FWD and name:
            return f"{'union' if flag else 'struct'} {self.text(name)}"
        if kind in _WORDS and not name:
            inner = "; ".join(self.members(number)) if deep < _DEEP else "…"
            return f"{_WORDS[kind]} {{ {inner} }}"
        return f"{_WORDS[kind]} {self.text(name)}" if kind in _WORDS else self.text(name)


def changed_structures(before: Types, after: Types) -> dict[str, str]:
    """Return by structure that both have what differs, in words."""
    olds, news = before.structures(), after.structures()
    found = {}
    for name in sorted(olds.keys() & news.keys()):
        old, new = before.members(olds[name]), after.members(news[name])
        sizes = before.size(olds[name]), after.size(news[name])
        if (old, sizes[0]) != (new, sizes[1]):
            less = [f"- {one}" for one in old if one not in new]
            more = [f"+ {one}" for one in new if one not in old]
            shown = [*less, *more]
            rest = f", and {len(shown) - 6} more" if len(shown) > 6 else ""
            found[name] = f"{sizes[0]} to {sizes[1]} bytes: {', '.join(shown[:6])}{rest}"
    return found


def changed_prototypes(before: Types, after: Types) -> dict[str, tuple[str, str]]:
    """Return by function that both have its prototypes, where they differ."""
    olds, news = before.prototypes(), after.prototypes()
    return {
        name: (olds[name], news[name])
        for name in sorted(olds.keys() & news.keys())
        if olds[name] != news[name]
    }
