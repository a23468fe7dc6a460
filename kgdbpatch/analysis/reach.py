"""Find the words that control comes to: what no edge leads to is data, padding, or code that is never run.

Liveness may follow edges that nobody takes; a site may not. So what stands behind a call counts as
reached only where the callee comes back there: not behind one that never returns, nor behind a
``bl`` over inline data, whose target takes the return address for a pointer.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from kgdbpatch.analysis.address_taken import references
from kgdbpatch.analysis.arrays import Grouped, joined, ranges, runs
from kgdbpatch.analysis.blocks import Blocks
from kgdbpatch.analysis.program import Flags, Indices, aligned_words
from kgdbpatch.analysis.regset import RegSet
from kgdbpatch.analysis.tables import Indirect
from kgdbpatch.isa.decode import Kind

__all__ = ["Reach", "ReachFinder"]

_FRAMES = (1, 11, 30, 31)  # what a frame is addressed by
_MOST = 400  # blocks followed to see what becomes of a return address
_VOLATILE = 0x1FF9  # r0, r3-r12
_ADDI, _LWZ, _STW, _STWU = 14, 32, 36, 37
_MFLR, _MTLR, _MR = 0x7C0802A6, 0x7C0803A6, 0x7C000378


class Reach(enum.IntEnum):
    """How control may come to a block."""

    CODE = 0  # by edges
    TABLE = 1  # it is (part of) a jump table
    NEVER = 2  # by no edge
    DOUBTFUL = 3  # by an indirect branch of the function, or by an address that is stored or made somewhere


class _Held(NamedTuple):
    """What holds a return address: LR, general registers, places in a frame.

    The places are told by their distance from r1 as it was at first, None where that is not known;
    ``moved`` is the distance of r1 from there.
    """

    in_lr: bool = True
    registers: int = 0
    slots: frozenset[int | None] = frozenset()
    moved: int | None = 0


class _Links:
    """Tell what becomes of the return address of calls that may be none."""

    def __init__(self, blocks: Blocks, defs: RegSet) -> None:
        self._blocks, self._defs = blocks, defs
        self._known: dict[int, bool] = {}

    def come_back(self, block: int) -> bool:
        """Tell whether code that is called at a block's start returns right behind the call."""
        if block not in self._known:
            self._known[block] = self._follow(block)
        return self._known[block]

    def _follow(self, start: int) -> bool:
        blocks = self._blocks
        pending = [(start, _Held())]
        seen = set(pending)
        while pending:
            block, held = pending.pop()
            if len(seen) > _MOST:
                return True
            result = self._run(block, held)
            if result is None:
                return True
            for after in (int(blocks.fall[block]), int(blocks.taken[block])):
                state = (after, result)
                if after >= 0 and (result.in_lr or result.registers or result.slots) and state not in seen:
                    seen.add(state)
                    pending.append(state)
        return False

    def _run(self, block: int, held: _Held) -> _Held | None:
        """Follow the return address through a block; None where control goes back by it, as it was."""
        blocks, words = self._blocks, self._blocks.program.words
        in_lr, registers, slots, moved = held
        for at in range(int(blocks.first[block]), int(blocks.last[block]) + 1):
            word = int(words[at])
            major, d, a, low = word >> 26, word >> 21 & 31, word >> 16 & 31, (word & 0xFFFF ^ 0x8000) - 0x8000
            slot = moved + low if a == 1 and moved is not None else None
            if major in (_STW, _STWU) and registers >> d & 1 and a in _FRAMES:
                slots |= {slot}
            if word & 0xFC1FFFFF == _MTLR:
                in_lr = bool(registers >> d & 1)
                continue
            copied = None
            if word & 0xFC1FFFFF == _MFLR and in_lr:
                copied = d
            elif word & 0xFC0007FE == _MR and word >> 11 & 31 == d and registers >> d & 1:
                copied = a
            elif major == _LWZ and a in _FRAMES and slots and (slot is None or slots & {slot, None}):
                copied = d
            if int(self._defs[at]) >> 1 & 1:  # r1
                known = major in (_STWU, _ADDI) and a == 1 and moved is not None
                moved = moved + low if known and moved is not None else None
            registers &= ~int(self._defs[at])
            if copied is not None:
                registers |= 1 << copied
        away = blocks.tail[block] >= 0  # to a routine that puts LR back, for one
        if (in_lr and (blocks.returns[block] or blocks.escapes[block])) or ((in_lr or slots) and away):
            return None
        if blocks.plain_call[block]:
            return _Held(False, registers & ~_VOLATILE, slots, moved)
        return _Held(in_lr, registers, slots, moved)


def _far_edges(blocks: Blocks) -> Grouped:
    """Return the edges to other blocks than the next one, by source."""
    program = blocks.program
    source, _, target = program.branches
    # calls of a place inside another function; what functions begin with is reached anyway
    inside = np.flatnonzero((blocks.of_word.take(target, mode="wrap") >= 0) & program.inside[source])
    inside = inside[~program.is_entry[target[inside]]]
    calls = blocks.of_word[source[inside]], blocks.of_word[target[inside]]
    jumps = np.flatnonzero(blocks.taken >= 0)
    pairs = (blocks.table_edges, blocks.implicit_edges, calls, (jumps, blocks.taken[jumps]))
    return Grouped(*joined(pairs), len(blocks.first))


class _Edges:
    """The edges that control surely may take, by source; ``far`` are the `_far_edges`."""

    def __init__(self, blocks: Blocks, behind: Flags, no_return: Flags, far: Grouped) -> None:
        falls = blocks.fall.copy()
        calls = np.flatnonzero(blocks.callee >= 0)
        falls[calls[no_return[blocks.callee[calls]]]] = -1
        falls[~behind | blocks.resumes | (blocks.kind == Kind.UNKNOWN)] = -1
        ends = np.flatnonzero(falls < 0)  # of runs of blocks of which each falls into the next
        self._run_end = np.repeat(ends, np.diff(ends, prepend=-1))
        self._targets = far

    def spread(self, reached: Flags, start: Indices) -> None:
        """Mark what is reached from blocks, themselves included."""
        front = start[~reached[start]]
        while len(front):
            front = np.sort(front)
            front = front[runs(self._run_end.take(front))]  # the first of each run
            run = ranges(front, self._run_end.take(front) + 1 - front)
            run = run[~reached[run]]
            reached[run] = True
            front = self._targets.of(run)
            front = front[~reached[front]]


class ReachFinder:
    """Find how control comes to the blocks of a program.

    ``forges_return`` are the functions that may go back to another place than where they were called
    from; ``data`` is (address, bytes) of the image, ``stored`` tells of which words the address
    stands there.
    """

    def __init__(
        self,
        blocks: Blocks,
        indirect: Indirect,
        defs: RegSet,
        forges_return: Flags,
        data: Sequence[tuple[int, bytes]],
        stored: Flags,
    ) -> None:
        self._blocks, self._indirect, self._data, self._stored = blocks, indirect, data, stored
        self._tables, self._far = _in_tables(blocks, indirect), _far_edges(blocks)
        self._behind = np.ones(len(blocks.first), dtype=np.bool_)  # control comes back behind its call
        self._opened = np.zeros(len(blocks.program.entry), dtype=np.bool_)  # control may come anywhere
        links = _Links(blocks, defs)
        internal = np.flatnonzero(blocks.internal_call & (blocks.taken >= 0))
        self._behind[internal] = [links.come_back(block) for block in blocks.taken[internal].tolist()]
        suspects = np.flatnonzero(blocks.callee >= 0)
        callee = blocks.callee[suspects]
        suspects = suspects[forges_return[callee] & (blocks.entry[callee] >= 0)]
        entries = blocks.entry[blocks.callee[suspects]]
        self._behind[suspects] = [links.come_back(block) for block in entries.tolist()]
        self._opened[blocks.owner[suspects[~self._behind[suspects]]]] = True

    def find(self, no_return: Flags | None = None) -> npt.NDArray[np.uint8]:
        """Return the `Reach` of every block; ``no_return`` are the functions that never come back."""
        blocks, tables, opened = self._blocks, self._tables, self._opened.copy()
        program = blocks.program
        edges = _Edges(
            blocks, self._behind, np.zeros_like(opened) if no_return is None else no_return, self._far
        )
        reached = np.zeros(len(blocks.first), dtype=np.bool_)
        edges.spread(reached, blocks.entry[blocks.entry >= 0])
        while True:
            before = int(reached.sum())
            for branch, targets in self._indirect.supposed.items():
                if reached[blocks.of_word[program.at(branch)]]:
                    words = program.index_of(np.array(targets, dtype=np.int64))
                    edges.spread(reached, blocks.of_word[words[words >= 0]])
            if int(reached.sum()) == before:
                break
        unresolved = program.index_of(np.array(sorted(self._indirect.unresolved), dtype=np.int64))
        opened[program.function[unresolved[reached[blocks.of_word[unresolved]]]]] = True
        doubtful = reached.copy()
        edges.spread(doubtful, np.flatnonzero(opened[blocks.owner] & ~tables))
        loose = np.flatnonzero(~doubtful & ~tables)
        edges.spread(doubtful, loose[self._addressed(loose)])
        result = np.full(len(blocks.first), Reach.NEVER, dtype=np.uint8)
        result[doubtful] = Reach.DOUBTFUL
        result[reached] = Reach.CODE
        result[tables] = Reach.TABLE
        return result

    def _addressed(self, loose: Indices) -> Flags:
        """Tell of blocks whether their address stands in memory (or a distance to it), or is made by code."""
        program, first = self._blocks.program, self._blocks.first[loose]
        starts = program.address[first]
        result: Flags = self._stored[first]
        result[references(program, starts)[1]] = True
        result |= _distant(starts, [part for part in self._data if program.at(part[0]) < 0])
        return result

    def words(self, reach: npt.NDArray[np.uint8]) -> Flags:
        """Tell of words whether control may come there."""
        blocks = self._blocks
        good = (reach == Reach.CODE) | (reach == Reach.DOUBTFUL)
        return np.append(good, False).take(blocks.of_word[:-1], mode="wrap")  # the last is no block's


def _in_tables(blocks: Blocks, indirect: Indirect) -> Flags:
    """Tell which blocks are jump tables; `Blocks` cuts at their ends."""
    program = blocks.program
    result = np.zeros(len(blocks.first) + 1, dtype=np.bool_)  # the last is no block's
    tables = {place for places in indirect.places.values() for place in places}
    place, entries = np.array(sorted(tables), dtype=np.int64).reshape(-1, 2).T
    entry = ranges(np.zeros_like(place), entries)
    words = program.index_of(np.repeat(place, entries) + 4 * entry)
    result[blocks.of_word[words]] = True
    return result[:-1]


def _distant(starts: Indices, data: Sequence[tuple[int, bytes]]) -> Flags:
    """Tell which addresses a word of memory leads to by its distance, as fix-up tables do."""
    found = np.zeros(len(starts), dtype=np.bool_)
    if not len(starts):
        return found
    for address, part in data:
        words = aligned_words(address, part).astype(np.int64)
        targets = ((address + 3 & ~3) + 4 * np.arange(len(words)) + words) & 0xFFFFFFFF
        targets = targets[(targets >= starts[0]) & (targets <= starts[-1])]
        at = np.searchsorted(starts, targets)
        found[at[starts[at] == targets]] = True
    return found
