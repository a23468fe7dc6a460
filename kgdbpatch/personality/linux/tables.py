"""What a Linux image says of its own code: tables of places in it, code given up after boot.

Old kernels hold addresses in these tables, newer ones distances. Which of them a table has is told
by what it would point at.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from kgdbpatch.errors import Misuse, UnknownSymbol
from kgdbpatch.personality.base import Window

if TYPE_CHECKING:
    from kgdbpatch.image import Image

__all__ = [
    "Table",
    "address_of",
    "exception_entries",
    "exception_table",
    "has_distances",
    "in_code",
    "init_memory",
    "jump_entries",
    "table",
    "words_at",
]

Addresses = npt.NDArray[np.int64]


class Table(NamedTuple):
    """A table of an image: where it lies, and its words."""

    address: int
    words: Addresses

    def rows(self, image: Image, width: int, code: Sequence[int], *, by_entry: bool = False) -> Addresses:
        """Return the entries of ``width`` words as addresses (width a row), those that make sense.

        They do where the columns ``code`` are instructions of the image. Distances count from the
        word itself, or with ``by_entry`` from its entry's first word.
        """
        return self._read(image, width, code, by_entry=by_entry)[1]

    def has_distances(self, image: Image, width: int, code: Sequence[int]) -> bool:
        """Tell whether the entries of such a table are distances, not addresses."""
        return self._read(image, width, code)[0] == 0

    def _read(
        self, image: Image, width: int, code: Sequence[int], *, by_entry: bool = False
    ) -> tuple[int, Addresses]:
        """Return whether the entries are distances (0) or addresses (1), and those that make sense."""
        count = self.words.size // width
        raw = self.words[: count * width].reshape(count, width)
        own = self.address + 4 * np.arange(count * width, dtype=np.int64).reshape(count, width)
        read = [(base + raw) & 0xFFFF_FFFF for base in (own[:, :1] if by_entry else own, np.zeros_like(own))]
        sound = [_is_code(image, rows[:, list(code)]).all(axis=1) for rows in read]
        best = max(range(len(read)), key=lambda way: (int(sound[way].sum()), -way))
        return best, read[best][sound[best]]


def _is_code(image: Image, places: Addresses) -> npt.NDArray[np.bool_]:
    """Tell which addresses are instructions (or the end of a section of them)."""
    found = np.zeros(places.shape, np.bool_)
    for section in image.code_sections():
        found |= (places >= section.address) & (places <= section.end)
    found &= places & 3 == 0
    return found


def in_code(image: Image, places: Addresses) -> npt.NDArray[np.bool_]:
    """Tell which addresses are whole instructions' in sections of code."""
    code, unknown = np.zeros(places.shape, np.bool_), places & 3 == 0
    for section in image.sections:  # the first that an address is in counts, as in `Image.section_at`
        here = unknown & (places >= section.address) & (places < section.end)
        unknown &= ~here
        if section.executable:
            code |= here
    return code


def words_at(image: Image, places: Addresses) -> npt.NDArray[np.uint32]:
    """Return the words at addresses, as `Image.read` does; `Misuse` beyond what there is."""
    words, one_by_one = np.zeros(places.shape, np.uint32), np.ones(places.shape, np.bool_)
    unknown = one_by_one.copy()
    for segment in image.segments:
        at = places - segment.address
        here = unknown & (at >= 0) & (at < segment.size)
        unknown &= ~here
        whole = np.flatnonzero(here & (at & 3 == 0) & (at + 4 <= len(segment.data)))
        if len(whole):
            words[whole] = np.frombuffer(segment.data, ">u4", len(segment.data) // 4)[at[whole] >> 2]
            one_by_one[whole] = False
    for one in np.flatnonzero(one_by_one).tolist():  # across an end, not in the file, not aligned
        words[one] = int.from_bytes(image.read(int(places[one]), 4), "big")
    return words


def table(image: Image, name: str, *marks: tuple[str, str]) -> Table | None:
    """Return the table in the section ``name``, or between the symbols of one of ``marks``; or None.

    Linkers may keep the section, or merge it into another one between two symbols.
    """
    for section in image.sections:
        if section.name == name and section.size >= 4:
            return _table(section.address, section.data)
    for first, last in marks:
        if not (image.knows(first) and image.knows(last)):  # near names, as `lookup` tells them, take time
            continue
        try:
            start, end = image.lookup(first), image.lookup(last)
            if start < end:
                return _table(start, image.read(start, end - start))
        except Misuse:  # no such symbols, or they are not what we think
            continue
    return None


def address_of(image: Image, *names: str) -> int | None:
    """Return the address of the first of these symbols that the kernel has."""
    known = image.symbols.last(names)
    return next((known[name].address for name in names if name in known), None)


def _table(address: int, data: bytes) -> Table:
    words = np.frombuffer(data, ">i4", len(data) // 4)
    return Table(address, words.astype(np.int64))


def has_distances(image: Image) -> bool:
    """Tell whether the kernel's tables hold distances: as its ``__ex_table`` does."""
    found = _exceptions(image)
    return found is None or found.has_distances(image, 2, (0, 1))


def _exceptions(image: Image) -> Table | None:
    return table(image, "__ex_table", ("__start___ex_table", "__stop___ex_table"))


def exception_entries(image: Image) -> Addresses:
    """Return the pairs (instruction, fix-up) of ``__ex_table``."""
    found = _exceptions(image)
    return np.zeros((0, 2), np.int64) if found is None else found.rows(image, 2, (0, 1))


def jump_entries(image: Image) -> Addresses:
    """Return the rows (nop or branch, its target, key) of ``__jump_table``; the key with two flags."""
    found = table(image, "__jump_table", ("__start___jump_table", "__stop___jump_table"))
    return np.zeros((0, 3), np.int64) if found is None else found.rows(image, 3, (0, 1))


def exception_table(image: Image) -> frozenset[int]:
    """Return the instructions that ``__ex_table`` names."""
    return frozenset(exception_entries(image)[:, 0].tolist())


def init_memory(image: Image) -> tuple[Window, ...]:
    """Return the range that the kernel frees when it has booted (``__init_begin`` to ``__init_end``)."""
    try:
        return (Window(image.lookup("__init_begin"), image.lookup("__init_end")),)
    except UnknownSymbol:
        return ()
