"""Solve backward data flow over all blocks of a program at once.

What holds before a block is ``gen | (after & keep)``, the smallest solution; after it holds what
holds before any successor, and what its exits from the function say. Registers are bits.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np

from kgdbpatch.analysis.blocks import Blocks
from kgdbpatch.analysis.program import Flags, Indices
from kgdbpatch.analysis.regset import RegSet

__all__ = ["BackwardDataflow", "Part", "ranges"]

_ROUNDS = 4  # between two looks at which functions still change
_FEW = 1024  # blocks among which that is not worth while


def ranges(first: Indices, count: Indices) -> Indices:
    """Return the numbers ``first[i] .. first[i] + count[i] - 1`` of every i in one row."""
    total = int(count.sum())
    if not total:
        return np.zeros(0, dtype=np.int64)
    steps = np.ones(total, dtype=np.int64)
    used = count > 0
    first, count = first[used], count[used]
    steps[0] = first[0]
    steps[np.cumsum(count)[:-1]] = first[1:] - (first[:-1] + count[:-1] - 1)
    result: Indices = np.cumsum(steps)
    return result


class _Edges:
    """Edges besides the two that each block may have, by source."""

    def __init__(self, sources: Indices, targets: Indices, count: int) -> None:
        order = np.argsort(sources, kind="stable")
        self.targets = targets[order]
        self.count = (
            np.bincount(sources, minlength=count) if len(sources) else np.zeros(count, dtype=np.int64)
        )
        self.first = np.concatenate(([0], np.cumsum(self.count)))[:count]

    def of(self, blocks: Indices) -> tuple[Indices, Indices, Indices] | None:
        """Return which of ``blocks`` have such edges, where the targets of each begin, and the targets."""
        counts = self.count.take(blocks)
        at = np.flatnonzero(counts)
        if not len(at):
            return None
        counts = counts[at]
        targets = self.targets[ranges(self.first[blocks[at]], counts)]
        return at, np.cumsum(counts) - counts, targets


class Part:
    """Some blocks, given by function, and where control goes from them."""

    def __init__(self, dataflow: BackwardDataflow, blocks: Indices) -> None:
        self.blocks = blocks
        self.fall, self.taken = dataflow.fall.take(blocks), dataflow.taken.take(blocks)
        more = np.flatnonzero(dataflow.more.take(blocks))
        self.tables, self.implicit = (
            None if found is None else (more[found[0]], *found[1:])
            for found in (edges.of(blocks[more]) for edges in (dataflow.tables, dataflow.implicit))
        )


class BackwardDataflow:
    """The blocks of a program, ready to be solved for several questions."""

    def __init__(self, blocks: Blocks) -> None:
        self.blocks = blocks
        count = len(blocks.first)
        self._none = count  # a block that does not exist: nothing holds before it
        self.fall = np.where(blocks.fall >= 0, blocks.fall, count)
        self.taken = np.where(blocks.taken >= 0, blocks.taken, count)
        self.tables = _Edges(*blocks.table_edges, count)
        self.implicit = _Edges(*blocks.implicit_edges, count)
        self.more = (self.tables.count > 0) | (self.implicit.count > 0)
        self._crossing = self._crosses()

    def _crosses(self) -> Flags:
        """Tell of each block whether it has an edge to another function."""
        blocks = self.blocks
        owner = np.append(blocks.owner, -1)
        flags: Flags = np.zeros(len(blocks.first), dtype=np.bool_)
        for target in (blocks.fall, blocks.taken):
            flags |= (target >= 0) & (owner[target] != blocks.owner)
        for sources, targets in (blocks.table_edges, blocks.implicit_edges):
            flags[sources[owner[sources] != owner[targets]]] = True
        return flags

    @cached_property
    def by_function(self) -> tuple[Indices, Indices, Indices]:
        """The blocks in the order of their functions, and where each function's begin and how many."""
        owner = self.blocks.owner
        order = np.argsort(owner, kind="stable")
        count = np.bincount(owner, minlength=len(self.blocks.program.entry))
        return order, np.cumsum(count) - count, count

    def blocks_of(self, functions: Indices) -> Indices:
        """Return the blocks of functions, function by function."""
        order, first, count = self.by_function
        return order[ranges(first[functions], count[functions])]

    def empty(self) -> RegSet:
        """Return what holds before every block when nothing does; the last element is no block's."""
        return np.zeros(self._none + 1, dtype=np.uint64)

    def after(self, value: RegSet, exits: RegSet, some: Indices | None = None) -> RegSet:
        """Return what holds after every block (or after ``some``), implicit edges left aside."""
        chosen = np.arange(self._none) if some is None else some
        out: RegSet = value[self.fall[chosen]] | value[self.taken[chosen]] | exits[chosen]
        extra = self.tables.of(chosen)
        if extra is not None:
            at, starts, targets = extra
            out[at] |= np.bitwise_or.reduceat(value[targets], starts)
        return out

    def part(self, functions: Indices) -> Part:
        """Return the blocks of functions, to be solved for."""
        return Part(self, self.blocks_of(functions))

    def solve(self, value: RegSet, part: Part, gen: RegSet, keep: RegSet, exits: RegSet) -> None:
        """Make ``value`` hold before the blocks of ``part``; others stay as they are."""
        # else each function rests by itself; few blocks come to rest together
        again = len(part.blocks) > _FEW and bool(self._crossing[part.blocks].any())
        while self._settle(value, part, gen, keep, exits) and again:
            pass

    def _rest(self, value: RegSet, part: Part, gen: RegSet, keep: RegSet, exits: RegSet) -> bool:
        """Go round all blocks until nothing changes; tell whether anything did."""
        changed = False
        while self._rounds(value, part, gen, keep, exits).any():
            changed = True
        return changed

    def _settle(self, value: RegSet, part: Part, gen: RegSet, keep: RegSet, exits: RegSet) -> bool:
        """Go round until every function has come to rest by itself; tell whether anything changed."""
        changed = False
        while len(part.blocks) > _FEW:
            moved = self._rounds(value, part, gen, keep, exits)
            if not moved.any():
                return changed
            changed = True
            owner = self.blocks.owner[part.blocks]
            still = np.zeros(len(self.blocks.program.entry), dtype=np.bool_)
            still[owner[moved]] = True
            part = Part(self, part.blocks[still[owner]])
        return self._rest(value, part, gen, keep, exits) or changed

    @staticmethod
    def _rounds(value: RegSet, part: Part, gen: RegSet, keep: RegSet, exits: RegSet) -> Flags:
        """Go round a few times; return which blocks the last round changed."""
        active, tables, implicit = part.blocks, part.tables, part.implicit
        gen, keep, exits = gen.take(active), keep.take(active), exits.take(active)
        before = value.take(active)
        old = before
        for _ in range(_ROUNDS):
            old = before
            before = value.take(part.fall)
            before |= value.take(part.taken)
            before |= exits
            if tables is not None:
                before[tables[0]] |= np.bitwise_or.reduceat(value[tables[2]], tables[1])
            before &= keep
            before |= gen
            if implicit is not None:
                before[implicit[0]] |= np.bitwise_or.reduceat(value[implicit[2]], implicit[1])
            value[active] = before
        result: Flags = np.not_equal(before, old)
        return result
