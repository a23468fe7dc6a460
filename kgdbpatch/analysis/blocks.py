"""Cut a whole program into blocks and link them: the flow graph as arrays.

Here a call ends its block, because what comes before it and what comes behind it are told apart
by what the callee does. `statistics` counts the blocks that people mean, which calls do not end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import chain

import numpy as np
import numpy.typing as npt

from kgdbpatch.analysis.arrays import joined
from kgdbpatch.analysis.program import Flags, ImplicitEdges, Indices, Program
from kgdbpatch.isa.decode import Kind

__all__ = ["Blocks"]

_NONE = -1
_BCLRL, _MTLR = 0x4C000021, 0x7C0803A6


def _pairs(program: Program, edges: Mapping[int, Sequence[int]]) -> npt.NDArray[np.int64]:
    """Return (source, target) word indices of edges given by address; -1 for places that we lack."""
    many = np.fromiter(map(len, edges.values()), np.int64, len(edges))
    sources = np.repeat(np.fromiter(edges, np.int64, len(edges)), many)
    targets = np.fromiter(chain.from_iterable(edges.values()), np.int64, len(sources))
    found = np.stack((program.index_of(sources), program.index_of(targets)), axis=1)
    found[(found >= 0) & ~program.inside[found]] = _NONE
    result: npt.NDArray[np.int64] = found[found[:, 0] >= 0]
    return result


class Blocks:
    """The blocks of a program's functions, by address.

    ``implicit`` are the edges that no branch shows; ``tables`` maps indirect branches to all their
    targets, ``constants`` indirect branches and calls to their only one: they are as good as direct.
    ``cuts`` are places where blocks begin besides. All are by address.

    Words that are no instruction end a block, too: who knows what comes of them.

    Per block: ``first`` and ``last`` word, ``owner`` (function number), ``fall`` and ``taken``
    (block number or -1), ``callee`` and ``tail`` (function number or -1), and flags.
    """

    def __init__(
        self,
        program: Program,
        implicit: ImplicitEdges | None = None,
        tables: Mapping[int, Sequence[int]] | None = None,
        cuts: Sequence[int] = (),
        constants: Mapping[int, int] | None = None,
    ) -> None:
        self.program = program
        implicit = implicit or ImplicitEdges()
        self.fixups_known = implicit.fixups_known
        self._implicit = _pairs(program, implicit.all)
        self._tables = _pairs(program, tables or {})
        places = np.array(list((constants or {}).items()), dtype=np.int64).reshape(-1, 2)
        self._constants = program.index_of(places[:, 0]), program.index_of(places[:, 1])
        self._cuts = np.append(program.index_of(np.array(cuts, dtype=np.int64)), self._constants[1])
        self._cut()
        self._link()

    def _cut(self) -> None:
        program = self.program
        kind, function, inside = program.decoded.kind, program.function, program.inside
        count = len(kind)
        source, _, target = program.branches
        self._calls: Flags = np.equal(kind, Kind.CALL)
        learning = source[(target == source + 1) & self._calls[source]]
        self._calls[learning] = False  # bcl 20,31,.+4 only reads the PC
        leader = np.zeros(count + 1, dtype=np.bool_)
        leader[:count] = program.is_entry[:count]
        leader[1:] |= program.transfers | self._calls | (kind == Kind.UNKNOWN)
        leader[1:][~program.contiguous] = True
        leader[1:count] |= function[1:] != function[:-1]
        for places in (target[target >= 0], self._tables[:, 1], self._implicit.reshape(-1), self._cuts):
            leader[places[places >= 0]] = True
        leader[self._implicit[:, 0] + 1] = True
        starts = leader[:count] & inside
        self.first: Indices = np.flatnonzero(starts)
        behind = np.append(self.first[1:], count)[: len(self.first)]
        # words outside of functions behind a block are not its own
        outside = np.flatnonzero(inside[:-1] & ~inside[1:]) + 1
        within = np.searchsorted(self.first, outside, "right") - 1
        behind[within] = outside
        self.last: Indices = behind - 1
        self.owner: Indices = function[self.first]
        # the block of each word, none of words in no function and of the last, which is behind all
        self.of_word: Indices = np.cumsum(np.append(starts, False))
        self.of_word -= 1
        self.of_word[np.append(~inside, True)] = _NONE

    def _block_at(self, word: Indices) -> Indices:
        """Return the block that begins at each word, -1 where the word is in no function, or is -1."""
        return self.of_word.take(word, mode="wrap")

    def _link(self) -> None:
        program, last = self.program, self.last
        kind = program.decoded.kind[last]
        conditional = program.decoded.conditional[last]
        count = len(last)
        self.kind = kind
        transfers = program.transfers[last]
        falls = conditional | ~transfers
        behind = np.where(program.contiguous[last], last + 1, _NONE)
        behind[behind >= len(program.words)] = _NONE
        self.fall: Indices = np.where(falls, self._block_at(behind), _NONE)
        escapes = falls & (self.fall < 0)

        target = np.full(len(program.words), _NONE, dtype=np.int64)
        direct = np.zeros(len(program.words), dtype=np.bool_)
        source, _, where = program.branches
        target[source], direct[source] = where, True
        source, where = self._constants
        target[source], direct[source] = where, True
        target, direct = target[last], direct[last]
        aim = self._block_at(target)
        aimed = aim >= 0
        is_entry = program.is_entry.take(target, mode="wrap")  # the last is no word's
        other = aimed & (self.owner.take(aim, mode="wrap") != self.owner)

        jumps = (kind == Kind.BRANCH) | (kind == Kind.JUMP) | ((kind == Kind.INDIRECT) & direct)
        tails = jumps & aimed & is_entry & other
        self.taken: Indices = np.where(jumps & aimed & ~tails, aim, _NONE)
        self.tail: Indices = np.where(tails, self.owner[np.maximum(aim, 0)], _NONE)
        # to run on into the next function is as good as to jump to it
        runs_on = (self.fall >= 0) & (self.owner[np.maximum(self.fall, 0)] != self.owner)
        runs_on[runs_on] = program.is_entry[last[runs_on] + 1] & (self.tail[runs_on] < 0)
        self.tail[runs_on] = self.owner[self.fall[runs_on]]
        self.fall[runs_on] = _NONE
        escapes |= jumps & ~aimed

        calls = self._calls[last]
        known = calls & direct & aimed & is_entry & ~conditional
        self.callee: Indices = np.where(known, self.owner[np.maximum(aim, 0)], _NONE)
        internal_call = calls & direct & aimed & ~is_entry
        self.taken[internal_call & ~other] = aim[internal_call & ~other]
        self.internal_call: Flags = internal_call  # calls of a place inside a function
        self.entered: Indices = self.owner[aim[internal_call]]  # the functions so entered
        self.resumes: Flags = self._resumes(calls)  # calls that go where the function came from
        escapes |= self.resumes | (kind == Kind.UNKNOWN)
        self.conditional_call: Flags = calls & conditional | self.resumes
        self.unknown_call: Flags = calls & (self.callee < 0) & ~internal_call & ~self.conditional_call
        self.plain_call: Flags = known | self.unknown_call | internal_call  # calls that are surely made
        self.links: Flags = self.plain_call | self.conditional_call  # calls of any kind
        self.outward: Flags = self.unknown_call & direct  # calls of code that is in no function of ours
        self.returns: Flags = np.equal(kind, Kind.RETURN)
        self.rfi: Flags = np.equal(kind, Kind.RFI)
        self.indirect: Flags = (kind == Kind.INDIRECT) & ~direct

        self.implicit_edges = self._edges(self._implicit)
        self.table_edges = self._edges(self._tables)
        outward = self._implicit[:, 0][self._implicit[:, 1] < 0]
        # addresses from which implicit edges lead to no code of ours
        self.implicit_escapes: Indices = program.address[outward]
        escapes[self.of_word[outward]] = True
        self.escapes: Flags = escapes  # control goes where there is no code of ours
        self.resolved: Flags = np.zeros(count, dtype=np.bool_)
        self.resolved[self.table_edges[0]] = True

    def _resumes(self, calls: Flags) -> Flags:
        """Tell which calls through LR go where the function was called from: LR was not set since."""
        program = self.program
        words, function = program.words, program.function
        result = np.zeros(len(calls), dtype=np.bool_)
        by_lr = calls & ((words[self.last] & np.uint32(0xFC0007FF)) == _BCLRL)
        for block in np.flatnonzero(by_lr).tolist():
            word = int(self.last[block]) - 1
            while word >= 0 and function[word] == self.owner[block] and not self._calls[word]:
                if int(words[word]) & 0xFC1FFFFF == _MTLR:
                    break
                word -= 1
            else:
                result[block] = True
        return result

    def _edges(self, pairs: npt.NDArray[np.int64]) -> tuple[Indices, Indices]:
        """Return source and target blocks of edges between words."""
        pairs = pairs[pairs[:, 1] >= 0]
        return self.of_word[pairs[:, 0]], self._block_at(pairs[:, 1])

    @cached_property
    def returning(self) -> Indices:
        """The blocks that end in a return."""
        return np.flatnonzero(self.returns)

    @cached_property
    def edges(self) -> tuple[Indices, Indices]:
        """All edges between blocks (source, target), `fall` and `taken` first; no calls, no tail calls."""
        near = ((np.flatnonzero(target >= 0), target[target >= 0]) for target in (self.fall, self.taken))
        return joined((*near, self.table_edges, self.implicit_edges))

    def between_functions(self, edges: tuple[Indices, Indices]) -> tuple[Indices, Indices]:
        """Return the functions that those of some edges between blocks connect that leave one (from, to)."""
        owner, other = (self.owner[ends] for ends in edges)
        elsewhere = np.flatnonzero(owner != other)
        return owner[elsewhere], other[elsewhere]

    @cached_property
    def across(self) -> tuple[Indices, Indices]:
        """Pairs of functions (from, to) between which control goes otherwise than by a call or tail call."""
        sources, targets = self.edges
        near = len(sources) - len(self.table_edges[0]) - len(self.implicit_edges[0])
        return self.between_functions((sources[:near], targets[:near]))

    @cached_property
    def calls(self) -> tuple[Indices, Indices]:
        """Pairs of functions (caller, callee)."""
        at = np.flatnonzero(self.callee >= 0)
        return self.owner[at], self.callee[at]

    @cached_property
    def tail_calls(self) -> tuple[Indices, Indices]:
        """Pairs of functions of which one jumps to, or runs on into, the start of the other."""
        at = np.flatnonzero(self.tail >= 0)
        return self.owner[at], self.tail[at]

    @cached_property
    def entry(self) -> Indices:
        """The first block of each function, -1 of those without code of their own."""
        program = self.program
        inside = program.end > program.entry
        own = np.zeros(len(inside), dtype=np.bool_)
        own[inside] = program.function[program.entry[inside]] == np.flatnonzero(inside)
        return np.where(own, self.of_word[np.where(own, program.entry, 0)], _NONE)

    @cached_property
    def unreached(self) -> Flags:
        """Whether no known edge leads to each block, and no function begins with it."""
        reached = np.zeros(len(self.first), dtype=np.bool_)
        reached[self.entry[self.entry >= 0]] = True
        reached[self.edges[1]] = True
        return ~reached
