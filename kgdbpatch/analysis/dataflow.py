"""Solve backward data flow over all blocks of a program at once.

What holds before a block is ``gen | (after & keep)``, the smallest solution; after it holds what
holds before any successor, and what its exits from the function say. Registers are bits.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np

from kgdbpatch.analysis.arrays import Grouped, distinct, joined, marked, runs
from kgdbpatch.analysis.blocks import Blocks
from kgdbpatch.analysis.program import Flags, Indices
from kgdbpatch.analysis.regset import RegSet

__all__ = ["BackwardDataflow", "Part"]

_ROUNDS = 6  # between two looks at which functions still change
_FEW = 512  # blocks among which that is not worth while
_WORTH = 0.75  # the share of a part's blocks to which it is narrowed at least


class _Joined:
    """Edges between the blocks of a `Part`, by source: ready to have joined what holds at their targets."""

    def __init__(self, sources: Indices, targets: Indices) -> None:
        self._each, self._targets = sources, targets
        self._firsts = runs(sources)
        self._sources = sources[self._firsts]

    def __bool__(self) -> bool:
        return bool(len(self._each))

    def join(self, result: RegSet, value: RegSet) -> None:
        """Add to the sources' ``result`` what ``value`` holds at their targets."""
        result[self._sources] |= np.bitwise_or.reduceat(value.take(self._targets), self._firsts)

    def among(self, number: Indices, count: int) -> _Joined:
        """Return the edges between those blocks whose new number is below ``count``."""
        if not self:
            return self
        sources = number.take(self._each)
        kept = np.flatnonzero(sources < count)
        return _Joined(sources[kept], number.take(self._targets[kept]))


class Part:
    """The blocks of some functions, and where control goes from them.

    The edges between them name blocks by their numbers in ``blocks``, and none by ``len(blocks)``.
    ``leaving`` and ``escaping`` are the edges to other blocks (number here, block): those that control
    takes at the ends of blocks, and the implicit ones.
    """

    def __init__(self, dataflow: BackwardDataflow, blocks: Indices) -> None:
        self.blocks = blocks
        self.owner = dataflow.blocks.owner.take(blocks)
        number = dataflow.number
        number[blocks] = np.arange(len(blocks))
        number[-1] = len(blocks)
        crossing = np.flatnonzero(dataflow.crossing.take(blocks))
        more = np.flatnonzero(dataflow.more.take(blocks))
        self.fall, self.taken = (number.take(target.take(blocks)) for target in dataflow.near)
        self.tables = self.implicit = _Joined(more[:0], more[:0])
        self.leaving = self.escaping = crossing[:0], crossing[:0]
        if not len(crossing) and not len(more):
            return
        leaving = list[tuple[Indices, Indices]]()
        for target, numbers in zip(dataflow.near, (self.fall, self.taken), strict=True):
            targets = target[blocks[crossing]]
            out = self._outside(number, targets)
            leaving.append((crossing[out], targets[out]))
            numbers[crossing[out]] = len(blocks)
        far = []
        for edges in (dataflow.tables, dataflow.implicit):
            targets = edges.of(blocks[more])
            sources, numbers = np.repeat(more, edges.count.take(blocks[more])), number.take(targets)
            out = self._outside(number, targets) if len(crossing) else targets[:0]
            leaving.append((sources[out], targets[out]))
            far.append(_Joined(np.delete(sources, out), np.delete(numbers, out)))
        self.tables, self.implicit = far
        *ends, self.escaping = leaving
        self.leaving = joined(ends)

    def _outside(self, number: Indices, targets: Indices) -> Indices:
        """Return which targets are blocks, but none of this part."""
        if not len(targets):
            return targets
        own = self.blocks.take(number.take(targets), mode="clip") == targets
        return np.flatnonzero(~own & (targets < len(number) - 1))

    def narrowed(self, some: Indices) -> Part:
        """Return the part that has only ``some`` of the blocks, ascending; no edge leads to others."""
        count = len(some)
        number = np.full(len(self.blocks) + 1, count)
        number[some] = np.arange(count)
        part = object.__new__(Part)
        part.blocks, part.owner = self.blocks.take(some), self.owner.take(some)
        part.fall, part.taken = (number.take(targets.take(some)) for targets in (self.fall, self.taken))
        part.tables, part.implicit = (edges.among(number, count) for edges in (self.tables, self.implicit))
        return part


class BackwardDataflow:
    """The blocks of a program, ready to be solved for several questions.

    ``kill`` is what each changes by itself. What no question makes a block lose but that, and what its
    call does, goes through a block that changes nothing: an implicit edge to where it goes on anyway adds
    nothing.
    """

    def __init__(self, blocks: Blocks, kill: RegSet) -> None:
        self.blocks = blocks
        count = len(blocks.first)
        self._none = count  # a block that does not exist: nothing holds before it
        self.near = [np.where(target >= 0, target, count) for target in (blocks.fall, blocks.taken)]
        self.tables = Grouped(*blocks.table_edges, count)  # targets, by source
        sources, targets = blocks.implicit_edges
        plain = (kill == 0) & ~blocks.links & (blocks.callee < 0)
        more = np.flatnonzero(~plain[sources] | (blocks.fall[sources] != targets))
        self.implicit = Grouped(sources[more], targets[more], count)
        self.more = (self.tables.count > 0) | (self.implicit.count > 0)
        self.number = np.zeros(count + 1, dtype=np.int64)  # of blocks in the `Part` made last
        self.crossing, self._entangled = self._cross()
        every = np.arange(count)
        self._table_edges = _Joined(np.repeat(every, self.tables.count), self.tables.of(every))

    def _cross(self) -> tuple[Flags, Indices]:
        """Tell from which blocks edges lead to other functions; return the functions at both ends.

        Calls, and jumps to where functions begin, are no edges here.
        """
        blocks = self.blocks
        sources, targets = blocks.edges
        crossing = marked(len(blocks.first), sources[blocks.owner[sources] != blocks.owner[targets]])
        return crossing, distinct(np.concatenate(blocks.between_functions(blocks.edges)))

    @cached_property
    def _by_function(self) -> Grouped:
        """The blocks of each function."""
        owner = self.blocks.owner
        return Grouped(owner, np.arange(len(owner)), len(self.blocks.program.entry))

    def empty(self) -> RegSet:
        """Return what holds before every block when nothing does; the last element is no block's."""
        return np.zeros(self._none + 1, dtype=np.uint64)

    def after(self, value: RegSet, exits: RegSet) -> RegSet:
        """Return what holds after every block, implicit edges left aside."""
        out = value.take(self.near[0])
        out |= value.take(self.near[1])
        out |= exits
        if self._table_edges:
            self._table_edges.join(out, value)
        return out

    @cached_property
    def everything(self) -> Part:
        """All blocks, to be solved for."""
        return Part(self, np.arange(self._none))

    def part(self, functions: Indices) -> Part:
        """Return the blocks of functions, to be solved for."""
        return Part(self, self._by_function.of(functions))

    def closed(self, functions: Indices) -> Part:
        """Return the blocks of functions, and of all from which edges lead to others or to which they do."""
        return self.part(distinct(np.append(functions, self._entangled)))

    def solve(self, value: RegSet, part: Part, gen: RegSet, keep: RegSet, exits: RegSet) -> None:
        """Make ``value`` hold before the blocks of ``part``; others stay as they are."""
        keep = keep.take(part.blocks)
        least = exits.take(part.blocks)  # what holds before a block is: least | (after & keep)
        for number, block in zip(*part.leaving, strict=True):
            least[number] |= value[block]
        least &= keep
        least |= gen.take(part.blocks)
        for number, block in zip(*part.escaping, strict=True):
            least[number] |= value[block]
        before = _ended(value, part.blocks)
        before[:-1] |= least
        while True:
            moved = _rounds(before, part, keep, least)
            if moved is None:
                value[part.blocks] = before[:-1]
                return
            if len(part.blocks) > _FEW:
                some = np.flatnonzero(self._still(part.owner, moved))
                if len(some) <= _WORTH * len(part.blocks):
                    value[part.blocks] = before[:-1]
                    part, keep, least = part.narrowed(some), keep.take(some), least.take(some)
                    before = _ended(before, some)

    def _still(self, owner: Indices, moved: Flags) -> Flags:
        """Tell which blocks may yet change: those of functions with a block that did, if alone or not."""
        still = marked(len(self.blocks.program.entry), owner.compress(moved))
        if still[self._entangled].any():
            still[self._entangled] = True
        return still.take(owner)


def _ended(value: RegSet, blocks: Indices) -> RegSet:
    """Return what holds before blocks, and nothing behind them."""
    result = np.zeros(len(blocks) + 1, dtype=np.uint64)
    value.take(blocks, out=result[:-1], mode="clip")
    return result


def _rounds(before: RegSet, part: Part, keep: RegSet, least: RegSet) -> Flags | None:
    """Go round a few times; return which blocks the last round changed, None if there were none."""
    fall, taken, tables, implicit = part.fall, part.taken, part.tables or None, part.implicit or None
    after, other = before.copy(), np.empty_like(least)
    new, old = before[:-1], after[:-1]
    for _ in range(_ROUNDS):  # an even number: the last result is in ``before``
        before, after, new, old = after, before, old, new
        after.take(fall, out=new, mode="clip")
        after.take(taken, out=other, mode="clip")
        new |= other
        if tables is not None:
            tables.join(new, after)
        new &= keep
        new |= least
        if implicit is not None:
            implicit.join(new, after)
    moved: Flags = np.not_equal(new, old)
    return moved if moved.any() else None
