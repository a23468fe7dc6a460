"""Which bits of a word of flags the running kernel's code uses: what `analysis.bits` asks of it."""

from __future__ import annotations

from collections.abc import Callable, Collection

import numpy as np
import numpy.typing as npt

from kgdbpatch.analysis.bits import BitUses, bit_uses
from kgdbpatch.analysis.cfg import FlowGraph
from kgdbpatch.image import Image
from kgdbpatch.isa.decode import Kind

__all__ = ["flag_bits"]

_ADDI, _ADDIS, _ORI, _BRANCH = 14, 15, 24, 18
_HALF = 0xFFFF
_ARGUMENTS = range(3, 11)
_SET_BY_CALLS = sum(1 << register for register in _ARGUMENTS)
_Words = npt.NDArray[np.uint32]


def flag_bits(image: Image, words: Callable[[int, int], _Words], address: int) -> BitUses:
    """Return how the code of an image uses the bits of a word; ``words(address, count)`` are what runs."""
    return _Asked(image, words).uses(address)


class _Asked:
    def __init__(self, image: Image, words: Callable[[int, int], _Words]) -> None:
        self._image = image
        self._code = [
            (section.address, words(section.address, len(section.data) // 4))
            for section in image.code_sections()
        ]
        self._words = words
        self._read: dict[int, frozenset[int]] = {}

    def uses(self, address: int) -> BitUses:
        """Return how the word's bits are used."""
        found = bit_uses(address, self._making(address), self._graph, self._callers, self._reads)
        found.kept.update(self._stored(address))
        return found

    def _making(self, address: int) -> list[int]:
        """Return the functions in which a ``lis``, an immediate and a displacement may come to an address.

        A compiler makes the address of one variable, and finds others from there.
        """
        found, high = [], address >> 16
        for entry in self._owners(_ADDIS, range(high - 1, high + 2)):
            words = self._all(entry).astype(np.int64)
            primary, low = words >> 26, words & _HALF
            signed = (low ^ 0x8000) - 0x8000
            bases = np.unique(low[primary == _ADDIS]) << 16
            added = np.unique(np.append(signed[primary == _ADDI], low[primary == _ORI]))
            places = np.unique(np.append(bases, np.add.outer(bases, added).ravel()))
            moved = np.unique(np.concatenate([added, signed[(primary >= 32) & (primary < 48)], [0]]))
            behind = (np.add.outer(places, moved) & 0xFFFF_FFFF) - address
            if ((behind >= 0) & (behind < 4)).any():
                found.append(entry)
        return found

    def _owners(self, primary: int, halves: Collection[int]) -> dict[int, None]:
        """Return the functions that have an instruction with one of some immediates."""
        found: dict[int, None] = {}
        for start, words in self._code:
            chosen = (words >> 26 == primary) & np.isin(words & _HALF, [*halves])
            for index in np.flatnonzero(chosen).tolist():
                function = self._image.function_at(start + 4 * index)
                if function is not None:
                    found[function.address] = None
        return found

    def _all(self, entry: int) -> _Words:
        function = self._image.function_at(entry)
        assert function is not None
        return self._words(entry, function.size // 4)

    def _graph(self, entry: int) -> FlowGraph | None:
        function = self._image.function_at(entry)
        if function is None or function.address != entry:
            return None
        return FlowGraph(self._all(entry), entry, model=self._image.model)

    def _callers(self, entry: int) -> list[int] | None:
        """Return the functions that call or jump to one; None where its address is known elsewhere."""
        low, high = entry & _HALF, ((entry + 0x8000) >> 16 & _HALF, entry >> 16)
        makers = self._owners(_ADDIS, high)
        if any(one in makers for immediate in (_ADDI, _ORI) for one in self._owners(immediate, (low,))):
            return None
        if self._stored(entry):
            return None
        found: dict[int, None] = {}
        for start, words in self._code:
            index = np.flatnonzero(words >> 26 == _BRANCH)
            distance = (words[index].view(np.int32) << 6 >> 8).astype(np.int64) * 4
            target = np.where(words[index] & 2, 0, start + 4 * index) + distance
            for at in index[target == entry].tolist():
                function = self._image.function_at(start + 4 * at)
                if function is not None:
                    found[function.address] = None
        return list(found)

    def _stored(self, address: int) -> list[int]:
        """Return where in the image's data an address stands."""
        found = []
        for section in self._image.sections:
            if not section.executable:
                data = np.frombuffer(section.data, ">u4", len(section.data) // 4)
                found += [section.address + 4 * index for index in np.flatnonzero(data == address).tolist()]
        return found

    def _reads(self, entry: int) -> Collection[int]:
        """Return the arguments that a function, or what it hands them on to, reads before it sets them."""
        if entry not in self._read:
            self._read[entry] = frozenset()  # by a call of itself none is read first
            self._read[entry] = self._find_reads(entry)
        return self._read[entry]

    def _find_reads(self, entry: int) -> frozenset[int]:
        graph = self._graph(entry)
        if graph is None:
            return frozenset(_ARGUMENTS)
        found, seen, pending = set[int](), set[tuple[int, int]](), [(graph.address, 0)]
        while pending:
            start, changed = pending.pop()
            if (start, changed) in seen:
                continue
            seen.add((start, changed))
            block = graph.blocks[start]
            for one in block.instructions:
                read: Collection[int] = [reg for reg in _ARGUMENTS if one.uses >> reg & 1]
                away = one.kind in (Kind.CALL, Kind.INDIRECT) or (
                    one.kind is Kind.JUMP and one.target not in graph
                )
                if away:
                    read = _ARGUMENTS if one.target is None else self._reads(one.target)
                found |= {reg for reg in read if not changed >> reg & 1}
                changed |= (one.defs | _SET_BY_CALLS if away else one.defs) & _SET_BY_CALLS
            pending += [(edge.target, changed) for edge in block.successors]
        return frozenset(found)
