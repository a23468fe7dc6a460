"""Find the symbols that a loaded module of Linux keeps of itself, in its structure, by their looks.

``struct module`` holds, close to each other and in an order that changed over the years: a pointer to a
table of ELF symbols of which the first is empty, their number, a pointer to the strings, which begin with
an empty one, and in newer kernels a pointer to nm's letters. In older ones the letter took the place of
``st_info``, in some of ``st_size``. Symbols of what was given up after loading are not kept.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from kgdbpatch.errors import MemoryFault
from kgdbpatch.image import Symbol

__all__ = ["module_symbols"]

_SYMBOL = np.dtype(
    [("name", ">u4"), ("value", ">u4"), ("size", ">u4"), ("info", "u1"), ("other", "u1"), ("section", ">u2")]
)
_NEAR = 6  # words between the parts of the description
_MOST = 1 << 18  # symbols
_NAMES = 16 << 20  # bytes
_LONGEST = 512  # characters of a name
_NAME = re.compile(rb"[!-~]{1,511}\0")
_FUNCTION, _LAST_TYPE, _LAST_BINDING = 2, 10, 2  # of ELF's st_info; its low half is the type
_CODE = b"tTwW"
_LETTERS = frozenset(b"ABCDGINRSTUVWabcdgiprstuvw?")

Read = Callable[[int, int], bytes]
Words = Sequence[int]
Raw = npt.NDArray[np.void]


def module_symbols(words: Words, read: Read, inside: Callable[[int], bool]) -> list[Symbol]:
    """Return the symbols of the module with the structure ``words``; none where it keeps none.

    ``read(virtual, size)`` raises `MemoryFault`; ``inside`` tells whether an address is in memory that
    modules can have. The kind is ``function`` for those in code that say so; sections are not told.
    """
    found = [_symbols(*place, words, read, inside) for place in _tables(words, read, inside)]
    return max(found, key=len, default=[])


def _tables(words: Words, read: Read, inside: Callable[[int], bool]) -> Iterator[tuple[int, Raw]]:
    """Yield the places in ``words`` of pointers to what looks like symbols, and those symbols."""
    for index, at in enumerate(words):
        if at % 4 or not inside(at):
            continue
        counts = {count for count in words[max(0, index - _NEAR) : index + _NEAR] if 1 < count <= _MOST}
        for count in sorted(counts, reverse=True):
            try:
                raw = np.frombuffer(read(at, count * _SYMBOL.itemsize), _SYMBOL)
            except MemoryFault:
                continue
            first = raw[0]
            if not (first["name"] or first["value"] or first["section"]) and raw["name"].any():
                yield index, raw


def _symbols(index: int, raw: Raw, words: Words, read: Read, inside: Callable[[int], bool]) -> list[Symbol]:
    """Return the symbols of a table, none where no strings fit it, or nothing tells of their kinds."""
    near = [at for at in words[max(0, index - _NEAR) : index + _NEAR] if at != words[index] and inside(at)]
    for at in near:
        names = _names(raw, at, read)
        if names is not None:
            return _made(raw, names, [other for other in near if other != at], read)
    return []


def _names(raw: Raw, at: int, read: Read) -> list[str] | None:
    """Return the symbols' names by the strings at an address, or None where these are none."""
    last = int(raw["name"].max())
    if last > _NAMES:
        return None
    try:
        text = read(at, last + 1)
        if text[0] or not last:
            return None
        text += _rest(at + last + 1, read)
    except MemoryFault:
        return None
    names = []
    for offset in raw["name"].tolist():
        match = _NAME.match(text, offset) if offset else None
        if offset and match is None:
            return None
        names.append(match[0][:-1].decode() if match else "")
    return names


def _rest(at: int, read: Read) -> bytes:
    """Return the rest of the last name, up to its end."""
    text = b""
    while b"\0" not in text and len(text) < _LONGEST:
        text += read(at + len(text), 1)
    return text


def _letters(count: int, near: Sequence[int], read: Read) -> bytes | None:
    """Return nm's letters of so many symbols from a table of their own, None where there is none."""
    for at in near:
        try:
            text = read(at, count)
        except MemoryFault:
            continue
        if _are_letters(text[1:]):
            return text
    return None


def _are_letters(found: Iterable[int]) -> bool:
    return _LETTERS.issuperset(found)


def _made(raw: Raw, names: Sequence[str], near: Sequence[int], read: Read) -> list[Symbol]:
    info, sizes = raw["info"].tolist(), raw["size"].tolist()
    typed = all(one >> 4 <= _LAST_BINDING and one & 15 <= _LAST_TYPE for one in info)
    letters: Sequence[int] | None = _letters(len(raw), near, read)
    if letters is None and _are_letters(info[1:]):
        letters = info
    elif letters is None and _are_letters(sizes[1:]):
        letters, sizes = sizes, [0] * len(sizes)
    found = []
    for number, (name, value, size) in enumerate(zip(names, raw["value"].tolist(), sizes, strict=True)):
        if not name or not raw["section"][number]:
            continue
        code = letters is not None and letters[number] in _CODE
        if typed:
            function, exported = info[number] & 15 == _FUNCTION, info[number] >> 4 != 0
        elif letters is not None:
            function, exported = code, letters[number] in b"TW"
        else:
            return []
        kind = "function" if function else "label" if code else "object"
        found.append(Symbol(name, value, size, "", kind, exported))
    return found
