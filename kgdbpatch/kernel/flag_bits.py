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

_WITH_LOW_HALF = (14, 24, *range(32, 48))  # addi, ori, loads and stores
_ADDIS, _BRANCH = 15, 18
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
        making = self._functions(address)
        return bit_uses(address, making, self._graph, self._callers, self._reads)

    def _functions(self, address: int, primaries: tuple[int, ...] = _WITH_LOW_HALF) -> list[int]:
        """Return the functions that may make an address: both halves of it stand in one."""
        low, high = address & 0xFFFF, (address + 0x8000) >> 16 & 0xFFFF
        lows, highs = self._owners(low, primaries), self._owners(high, (_ADDIS,))
        return [entry for entry in lows if entry in highs]

    def _owners(self, half: int, primaries: tuple[int, ...]) -> dict[int, None]:
        found: dict[int, None] = {}
        for start, words in self._code:
            chosen = (words & 0xFFFF == half) & np.isin(words >> 26, primaries)
            for index in np.flatnonzero(chosen).tolist():
                function = self._image.function_at(start + 4 * index)
                if function is not None:
                    found[function.address] = None
        return found

    def _graph(self, entry: int) -> FlowGraph | None:
        function = self._image.function_at(entry)
        if function is None or function.address != entry:
            return None
        return FlowGraph(self._words(entry, function.size // 4), entry, model=self._image.model)

    def _callers(self, entry: int) -> list[int] | None:
        """Return the functions that call or jump to one; None where its address is stored anywhere."""
        if self._functions(entry, (14, 24)) or self._is_stored(entry):
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

    def _is_stored(self, entry: int) -> bool:
        wanted = np.array(entry, ">u4")
        for section in self._image.sections:
            if not section.executable:
                data = np.frombuffer(section.data, ">u4", len(section.data) // 4)
                if (data == wanted).any():
                    return True
        return False

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
