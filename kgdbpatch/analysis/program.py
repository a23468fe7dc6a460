"""Lay out all code of an image in arrays: its words, the function each is in, where branches go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

from kgdbpatch.analysis.arrays import distinct, marked
from kgdbpatch.isa.decode import Decoded, Kind, decode_array
from kgdbpatch.isa.fields import Words

__all__ = ["Flags", "ImplicitEdges", "Indices", "Program", "aligned_words", "stored_addresses"]

Indices = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class ImplicitEdges:
    """Where control may go from instructions without a branch that says so, by address.

    ``exceptional`` has where it goes on when an instruction faults (fix-ups); None: that is not known,
    and is then looked for in what no other edge leads to. ``rewritten`` has where it goes from words that
    the kernel itself rewrites (jump labels, static calls), in any of their forms.
    """

    exceptional: Mapping[int, Sequence[int]] | None = None
    rewritten: Mapping[int, Sequence[int]] = field(default_factory=dict)

    @property
    def fixups_known(self) -> bool:
        """Whether all exceptional edges are known."""
        return self.exceptional is not None

    @cached_property
    def all(self) -> dict[int, tuple[int, ...]]:
        """Both kinds."""
        edges = {source: tuple(targets) for source, targets in self.rewritten.items()}
        for source, targets in (self.exceptional or {}).items():
            edges[source] = tuple(sorted({*edges.get(source, ()), *targets}))
        return edges


class Program:
    """The words of all ``sections`` (address, words) in one row, and ``functions`` (address, bytes).

    Words are named by their index in the row; ``address`` and ``index_of`` translate.
    ``model`` is the CPU's, as for `decode`. ``function`` is the innermost function of each word, by number;
    -1 outside of functions.
    """

    def __init__(
        self, sections: Sequence[tuple[int, Words]], functions: Sequence[tuple[int, int]], model: str = ""
    ) -> None:
        self.model = model
        given = ((address, np.asarray(words, dtype=np.uint32)) for address, words in sections if len(words))
        parts = sorted(given, key=lambda part: part[0])
        self.starts = np.array([address for address, _ in parts], dtype=np.int64)
        sizes = np.array([len(words) for _, words in parts], dtype=np.int64)
        self.firsts = np.concatenate(([0], np.cumsum(sizes)))
        self.words: Words = (
            np.concatenate([words for _, words in parts]) if parts else np.zeros(0, dtype=np.uint32)
        )
        self.address: Indices = np.empty(len(self.words), dtype=np.int64)
        for (start, words), first in zip(parts, self.firsts[:-1].tolist(), strict=True):
            self.address[first : first + len(words)] = start + 4 * np.arange(len(words))
        table = np.array(functions, dtype=np.int64).reshape(-1, 2)
        table = table[np.lexsort((table[:, 1], table[:, 0]))]
        table = table[self.index_of(table[:, 0]) >= 0]
        if len(table):  # of several that start at one place the longest counts
            table = table[np.append(table[1:, 0] != table[:-1, 0], True)]
        self.entry = self.index_of(table[:, 0])
        self.entry_address: Indices = table[:, 0]
        self.end = np.minimum(self.entry + table[:, 1] // 4, self._section_end(self.entry))
        self.function: Indices = self._innermost()
        self.is_entry: Flags = marked(len(self.words) + 1, self.entry[self.end > self.entry])

    def _innermost(self) -> Indices:
        """Return for each word which of the functions around it begins last."""
        shown = np.minimum(self.end, np.append(self.entry[1:], len(self.words)))
        bounds = np.append(np.stack((self.entry, shown), axis=1), len(self.words))
        numbers = np.full(len(bounds), -1)
        numbers[1::2] = np.arange(len(self.entry))
        result = np.repeat(numbers, np.diff(bounds, prepend=0))
        for number in np.flatnonzero(self.end > shown).tolist():  # what goes on behind another's start
            words = result[self.entry[number] : self.end[number]]
            np.maximum(words, number, out=words)
        return result

    @cached_property
    def decoded(self) -> Decoded:
        """The decoded words."""
        return decode_array(self.words, self.model)

    def _section_end(self, index: Indices) -> Indices:
        """Return the index behind the section that each word is in."""
        return self.firsts[np.searchsorted(self.firsts, index, "right")]

    def index_of(self, address: Indices) -> Indices:
        """Return the index of the word at each address, -1 where there is none."""
        if not len(self.starts):
            return np.full(len(address), -1, dtype=np.int64)
        part = np.searchsorted(self.starts, address, "right") - 1
        inside = np.maximum(part, 0)
        index = self.firsts[inside] + (address - self.starts[inside]) // 4
        good = (part >= 0) & (index < self.firsts[inside + 1]) & (address & 3 == 0)
        return np.where(good, index, -1)

    def end_address(self, function: int) -> int:
        """Return the address behind the last word of a function."""
        return int(self.entry_address[function]) + 4 * int(self.end[function] - self.entry[function])

    def at(self, address: int) -> int:
        """Return the index of the word at an address, -1 where there is none."""
        return int(self.index_of(np.array([address], dtype=np.int64))[0])

    @cached_property
    def branches(self) -> tuple[Indices, Indices, Indices]:
        """The direct branches: index, target address, and the target's index (-1: no word of ours)."""
        source, displacement, absolute = self.decoded.branches()
        address = (np.where(absolute, 0, self.address[source]) + displacement) & 0xFFFFFFFF
        return source, address, self.index_of(address)

    @cached_property
    def transfers(self) -> Flags:
        """Whether each word may send control elsewhere, calls and traps left aside."""
        flags = np.array([kind.transfers for kind in Kind], dtype=np.bool_)
        return flags.take(self.decoded.kind)

    @cached_property
    def inside(self) -> Flags:
        """Whether each word is in a function."""
        return np.greater_equal(self.function, 0)

    @cached_property
    def primary(self) -> npt.NDArray[np.uint8]:
        """The primary opcode of each word."""
        return (self.words >> np.uint32(26)).astype(np.uint8)

    def having(self, mask: int, match: int) -> Indices:
        """Return the words of functions that have certain bits (``match`` of those in ``mask``)."""
        return np.flatnonzero(((self.words & np.uint32(mask)) == match) & self.inside)

    @cached_property
    def low_halves(self) -> Indices:
        """The words of functions that make the low half of an address (addi, li, ori)."""
        adds = np.flatnonzero((self.primary == 14) & self.inside)
        return np.sort(np.append(adds, np.flatnonzero((self.primary == 24) & self.inside)))

    def makes_high_half(self, function: Indices, half: Indices) -> Flags:
        """Tell whether functions put (lis, addis) halves of addresses into the high half of a register."""
        keys, made = function << 16 | half, self._high_halves
        found: Flags = np.equal(made[made[:-1].searchsorted(keys)], keys)
        return found

    @cached_property
    def _high_halves(self) -> Indices:
        """Functions and the high halves that they make with an addis, as keys; the last is none."""
        lis = self.having(0xFC000000, 15 << 26)
        keys = self.function[lis] << 16 | (self.words[lis] & np.uint32(0xFFFF)).astype(np.int64)
        return np.append(distinct(keys), -1)

    @cached_property
    def contiguous(self) -> Flags:
        """Whether the next word of the row stands behind each word in memory."""
        flags = np.ones(len(self.words), dtype=np.bool_)
        flags[self.firsts[1:] - 1] = False
        return flags


def aligned_words(address: int, data: bytes) -> npt.NDArray[np.uint32]:
    """Return the words of what is held at an address, from the first that is aligned on; big-endian."""
    held = memoryview(data)[-address % 4 :]
    return np.frombuffer(held[: len(held) & ~3], ">u4")


def stored_addresses(program: Program, data: Sequence[tuple[int, bytes]]) -> Flags:
    """Tell of each word of a program whether its address stands in ``data`` (address, bytes), aligned."""
    stored = np.zeros(len(program.words), dtype=np.bool_)
    if not len(program.words):
        return stored
    low, high = np.uint32(program.address[0]), np.uint32(program.address[-1])
    for address, part in data:
        words = aligned_words(address, part).astype(np.uint32)
        found = program.index_of(words[(words >= low) & (words <= high)].astype(np.int64))
        stored[found[found >= 0]] = True
    return stored
