"""Find the addresses that functions surely put together: a ``lis`` and an immediate that it reaches.

`address_taken.references` is the wide answer, which safety needs: it takes any ``lis`` of a function with
any immediate of it. This one follows the register from the immediate back to what set it.
"""

from __future__ import annotations

import numpy as np

from kgdbpatch.analysis.address_taken import made_by_halves
from kgdbpatch.analysis.arrays import Grouped, distinct
from kgdbpatch.analysis.blocks import Blocks
from kgdbpatch.analysis.program import Flags, Indices
from kgdbpatch.analysis.regset import RegSet
from kgdbpatch.analysis.saves import field

__all__ = ["made_addresses"]

_VOLATILE = frozenset((0, *range(3, 13)))  # in both calling conventions


def made_addresses(blocks: Blocks, changes: RegSet, places: Indices) -> tuple[Indices, Indices]:
    """Return (function, number of the place) where some path through a function makes the place's address.

    ``changes`` are the sets of what the words change.
    """
    program = blocks.program
    low, number, high = made_by_halves(program, places)
    register = field(program.words[low], np.where(program.primary[low] == 14, 16, 21))
    some = (program.primary[low] != 14) | (register != 0)  # no li
    low, number, high, register = low[some], number[some], high[some], register[some]
    kept: Flags = np.zeros(len(low), dtype=np.bool_)
    search = _Search(blocks, changes)
    rows = (column.tolist() for column in (low, high, register))
    for index, (word, half, base) in enumerate(zip(*rows, strict=True)):
        kept[index] = search.comes_from(word, base, 15 << 26 | base << 21 | half)
    keys = distinct(program.function[low[kept]] * max(len(places), 1) + number[kept])
    return keys // max(len(places), 1), keys % max(len(places), 1)


class _Search:
    def __init__(self, blocks: Blocks, changes: RegSet) -> None:
        self._blocks, self._changes = blocks, changes
        self._words = blocks.program.words
        source, target = blocks.edges
        own = blocks.owner[source] == blocks.owner[target]
        self._before = Grouped(target[own], source[own], len(blocks.first))

    def comes_from(self, word: int, register: int, wanted: int) -> bool:
        """Tell whether the instruction ``wanted`` may have been what set a register before a word."""
        block = int(self._blocks.of_word[word])
        pending: list[tuple[int, int]] = [(block, word - 1)]
        seen: set[int] = set()  # searched from their ends
        while pending:
            block, last = pending.pop()
            setter = self._setter(int(self._blocks.first[block]), last, register)
            if setter is not None:
                if int(self._words[setter]) == wanted:
                    return True
                continue
            for before in self._before.at(block).tolist():
                if before not in seen and not (self._blocks.links[before] and register in _VOLATILE):
                    seen.add(before)
                    pending.append((before, int(self._blocks.last[before])))
        return False

    def _setter(self, first: int, last: int, register: int) -> int | None:
        """Return the last word from ``first`` to ``last`` that changes a register."""
        if last < first:
            return None
        found = np.flatnonzero(self._changes[first : last + 1] >> np.uint64(register) & np.uint64(1))
        return first + int(found[-1]) if len(found) else None
