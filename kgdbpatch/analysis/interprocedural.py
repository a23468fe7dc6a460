"""Find the live registers at every instruction of a program, with callees and callers in view.

Liveness errs on one side only: what is unknown is live. Whoever may call a function unseen (code
put in later, for one) does so by the calling convention, so what a convention promises to a
caller is live where a function returns, whether a caller in sight makes use of it or not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from kgdbpatch.analysis import regset
from kgdbpatch.analysis.address_taken import address_taken, makes_return_address, references
from kgdbpatch.analysis.arrays import joined, marked, spread
from kgdbpatch.analysis.blocks import Blocks
from kgdbpatch.analysis.dataflow import BackwardDataflow, Part
from kgdbpatch.analysis.effects import (
    BlockTransfer,
    WordEffects,
    blockwise,
    may_fault,
    without_saves,
    words_of,
)
from kgdbpatch.analysis.program import Flags, ImplicitEdges, Indices, Program, stored_addresses
from kgdbpatch.analysis.reach import ReachFinder
from kgdbpatch.analysis.regset import ALWAYS, EVERYTHING, FREEABLE, RegSet
from kgdbpatch.analysis.saves import find_saves
from kgdbpatch.analysis.summaries import Convention, Summaries, summarize
from kgdbpatch.analysis.tables import Indirect, resolve
from kgdbpatch.interpreter import uncollected
from kgdbpatch.isa.abi import ABI
from kgdbpatch.isa.registers import mask

__all__ = ["ALWAYS", "FREEABLE", "BlockLiveness", "ProgramLiveness", "analyze_program"]

_ALL = np.uint64(EVERYTHING)
_ZERO = np.uint64(0)
_WIDE = np.uint64(regset.from_mask(mask("r5", "r6")))


@dataclass(frozen=True)
class BlockLiveness:
    """What is live before each block, and just after its last instruction has had its effect.

    Where it is not known to which fix-ups control goes, those of a function are taken to be what no
    edge leads to, and to be reached from all of its instructions that may fault.
    """

    before: RegSet
    at_end: RegSet
    exits: RegSet  # per function: what is live where it returns
    fixups: RegSet  # per function: what its fix-ups may read, nothing where they are known


class ProgramLiveness:
    """A program with everything found out about it on the way to its live registers."""

    def __init__(
        self,
        program: Program,
        abi: ABI,
        data: Sequence[tuple[int, bytes]],
        implicit: ImplicitEdges | None,
        reads: Mapping[int, int],
    ) -> None:
        self.program, self.abi, self.convention = program, abi, Convention.of(abi)
        self.blocks = Blocks(program, implicit)
        sets = {registers: np.uint64(regset.from_mask(registers)) for registers in {*reads.values()}}
        self.reads = {at: sets[registers] for at, registers in reads.items()}
        # a fix-up that is no code of ours may read what the faulting instruction did not overwrite
        self.reads |= dict.fromkeys(self.blocks.implicit_escapes.tolist(), _ALL)
        words = words_of(program.decoded)
        places = program.index_of(np.array(list(self.reads), dtype=np.int64))
        more = np.array(list(self.reads.values()), dtype=np.uint64)[places >= 0]
        places = places[places >= 0]
        words.uses[places] |= more
        stored = stored_addresses(program, data)
        made = references(program)
        self.indirect: Indirect = resolve(self.blocks, words.defs, data, stored, made[0])
        found = self.indirect
        if found.places or found.constants:
            del self.blocks  # ahead of those that come instead: they are large
            self.blocks = Blocks(program, implicit, found.tables, found.bounds, found.constants)
        self.forges_return = makes_return_address(self.blocks, words.defs)
        reach = ReachFinder(self.blocks, found, words.defs, self.forges_return, data, stored)
        saves = find_saves(self.blocks, words.defs, reach.words(reach.find()))
        self.word_effects: WordEffects = without_saves(words, program, saves)
        self.word_effects.wanted[places] |= more
        self.transfer: BlockTransfer = blockwise(self.blocks, self.word_effects)
        self.dataflow = BackwardDataflow(self.blocks, self.transfer.kill)
        pointers = program.index_of(np.array(sorted(found.pointers), dtype=np.int64))
        self.pointers: Flags = marked(len(self.blocks.first), self.blocks.of_word[pointers])
        self.likely = self._likely()
        self.summaries: Summaries = summarize(
            self.dataflow, saves, self.transfer, abi, self.pointers, self.forges_return, self.likely
        )
        self.address_taken = address_taken(program, stored, made[1])
        self.reach = reach.find(self.summaries.no_return)

    def _likely(self) -> tuple[Indices, Indices]:
        """Return (block, function) of calls and tail calls through memory that holds a function at first."""
        program, held = self.program, self.indirect.held
        pairs = [(at, target) for at, targets in held.items() for target in targets]
        at, target = np.array(sorted(pairs), dtype=np.int64).reshape(-1, 2).T
        at, target = self.blocks.of_word[program.index_of(at)], program.index_of(target)
        good = (target >= 0) & program.is_entry[target]
        return at[good], program.function[target[good]]

    # ---- what functions promise --------------------------------------------------------

    @property
    def entered_inside(self) -> Flags:
        """Whether each function is called at another place than its start."""
        return marked(len(self.program.entry), self.blocks.entered)

    @property
    def conforming(self) -> Flags:
        """Whether each function keeps to the calling convention, by what it does."""
        given = self.convention.direct | self.convention.preserved | np.uint64(regset.from_mask(mask("lr")))
        found = self.summaries
        result: Flags = (found.reads & ~given & _ALL) == 0
        result &= found.keeps == found.keeps.max(initial=_ZERO)
        return result & ~self.forges_return & ~self.entered_inside & (self.blocks.entry >= 0)

    def calls(self) -> tuple[RegSet, RegSet]:
        """Return what calls at the ends of blocks read, and what they leave for what was before."""
        blocks, found, convention = self.blocks, self.summaries, self.convention
        reads = np.zeros(len(blocks.first), dtype=np.uint64)
        keeps = np.full(len(blocks.first), ~_ZERO)
        known = np.flatnonzero(blocks.callee >= 0)
        callee = blocks.callee[known]
        reads[known] = found.reads[callee]
        keeps[known] = ~found.overwrites[callee] & ~found.dead_behind[known]
        unknown = np.flatnonzero(blocks.unknown_call)
        # a routine that saves registers for its caller is called directly
        reads[unknown] = convention.pointed | np.where(blocks.outward[unknown], convention.preserved, _ZERO)
        keeps[unknown] = ~(found.dead_behind[unknown] | convention.returns)
        block, function = self.likely
        np.bitwise_or.at(reads, block, np.where(self.pointers[block], _ZERO, found.reads[function]))
        opaque_call = blocks.internal_call | blocks.conditional_call
        reads[opaque_call] = _ALL
        return reads, keeps

    def leaving(self, at_return: RegSet) -> RegSet:
        """Return what is live at the exits that blocks end with."""
        blocks, found, convention = self.blocks, self.summaries, self.convention
        exits = np.zeros(len(blocks.first), dtype=np.uint64)
        exits[blocks.returning] = at_return[blocks.owner[blocks.returning]]
        exits[self.pointers] |= convention.tail
        block, function = self.likely
        np.bitwise_or.at(exits, block, np.where(self.pointers[block], found.reads[function], _ZERO))
        tails = np.flatnonzero(blocks.tail >= 0)
        target = blocks.tail[tails]
        exits[tails] |= found.reads[target] | at_return[blocks.owner[tails]] & ~found.overwrites[target]
        escapes = blocks.escapes | blocks.rfi | (blocks.indirect & ~blocks.resolved & ~self.pointers)
        exits[escapes] = _ALL
        return exits

    @cached_property
    def _possible_fixups(self) -> Indices:
        """The blocks that control may come to after a fault: all that no edge leads to, where nobody knows.

        A word that is no instruction begins none: it is filler, or data.
        """
        if self.blocks.fixups_known:
            return np.zeros(0, dtype=np.int64)
        is_code = self.program.decoded.known[self.blocks.first]
        return np.flatnonzero(self.blocks.unreached & is_code)

    # ---- solving ------------------------------------------------------------------------

    def fill(self, value: RegSet, some: Part, gen: RegSet, keep: RegSet, exits: RegSet) -> RegSet:
        """Make ``value`` what is live before ``some`` blocks; return what functions' fix-ups may read."""
        entered = np.zeros(len(self.program.entry), dtype=np.uint64)
        unreached = self._possible_fixups
        while True:
            self.dataflow.solve(value, some, gen, keep, exits)
            if not len(unreached):
                return entered
            np.bitwise_or.at(entered, self.blocks.owner[unreached], value[unreached])
            more = entered[self.blocks.owner] & self.transfer.faults & ~gen
            if not more.any():
                return entered
            gen = gen | more

    def _at_return(self, at_end_needs: RegSet) -> RegSet:
        """Return what is live where functions return, given what is live behind their callers' calls."""
        blocks, found, convention = self.blocks, self.summaries, self.convention
        calls = np.flatnonzero(blocks.callee >= 0)
        used = convention.returns | convention.volatile & ~found.dead_behind[calls]
        total = np.zeros(len(self.program.entry), dtype=np.uint64)
        np.bitwise_or.at(total, blocks.callee[calls], at_end_needs[calls] & used)
        return total

    def _wide_results(self) -> np.uint64:
        """Return in which registers, besides the convention's, callers by pointer find results.

        The parts of a complex number (or a quadruple without floating point) come back in four registers.
        """
        blocks, seen = self.blocks, np.append(self.transfer.proven, _ZERO)
        tails = marked(len(self.program.entry), blocks.owner[self.pointers])
        calls = blocks.unknown_call | (blocks.callee >= 0) & tails[blocks.callee]
        found: np.uint64 = np.bitwise_or.reduce(seen[blocks.fall[calls]], initial=_ZERO) & _WIDE
        return found

    def _called_from_outside(self) -> Indices:
        """Return the functions that are called, or jumped to, by words that are in no function of ours."""
        program = self.program
        source, _, target = program.branches
        lead = (program.function[source] < 0) & (target >= 0) & program.is_entry[target]
        return program.function[target[lead]]

    def solve(self) -> BlockLiveness:
        """Solve with summaries of callees, and with what callers in sight look at after a call."""
        blocks, convention, count = self.blocks, self.convention, len(self.program.entry)
        unseen = self.address_taken | ~marked(count, joined((blocks.calls, blocks.tail_calls))[1])
        # the first result register is live for the sake of callers that are yet to come
        first = np.uint64(regset.from_mask(mask("r3")))
        at_return = np.full(count, convention.preserved | first)
        at_return[unseen] |= convention.returns | self._wide_results()
        inside = marked(count, blocks.owner[blocks.internal_call])
        at_return[self.entered_inside | self.forges_return | inside] = _ALL
        at_return[unseen & ~self.conforming] = _ALL
        at_return[self._called_from_outside()] = _ALL
        jumping, jumped_to = joined((blocks.tail_calls, blocks.across))
        reads, keeps = self.calls()
        gen, keep = self.transfer.uses | reads & ~self.transfer.kill, keeps & ~self.transfer.kill
        value = self.dataflow.empty()
        some = self.dataflow.everything
        while True:
            exits = self.leaving(at_return)
            fixups = self.fill(value, some, gen, keep, exits)
            behind = self.dataflow.after(value, exits)
            # a function that is jumped to returns to its caller's caller
            wanted = spread(at_return | self._at_return(behind), jumped_to, jumping)
            changed = np.flatnonzero(wanted != at_return)
            if not len(changed):
                return BlockLiveness(value, behind & keeps | reads, at_return, fixups)
            at_return, some = wanted, self.dataflow.part(changed)

    def everywhere(self, found: BlockLiveness) -> RegSet:
        """Return what is live before every word; everything where no function is."""
        blocks, words = self.blocks, self.word_effects
        uses = words.uses
        if found.fixups.any():
            faulting = np.flatnonzero(may_fault(self.program.decoded) & (self.program.function >= 0))
            uses = uses.copy()
            uses[faulting] |= found.fixups[self.program.function[faulting]]
        result = np.full(len(self.program.words), _ALL)
        length = blocks.last - blocks.first + 1
        order = np.argsort(-length, kind="stable")
        longest = int(length[order[0]]) if len(order) else 0
        counts = np.searchsorted(-length[order], -np.arange(1, longest + 1), "right")
        last, live = blocks.last[order], found.at_end[order].copy()
        for step, many in enumerate(counts.tolist()):
            at = last[:many] - step
            now = live[:many]
            now &= ~words.defs[at]
            now |= uses[at]
            result[at] = now
        result[blocks.first] |= found.before[:-1]
        return result | ALWAYS


def analyze_program(
    sections: Sequence[tuple[int, np.ndarray]],
    functions: Sequence[tuple[int, int]],
    abi: ABI,
    data: Sequence[tuple[int, bytes]],
    implicit: ImplicitEdges | None = None,
    reads: Mapping[int, int] | None = None,
    model: str = "",
) -> ProgramLiveness:
    """Analyse all code ``sections`` (address, words) with ``functions`` (address, bytes).

    ``data`` is (address, bytes) of everything that may hold tables and pointers; ``implicit`` are the
    edges that no branch shows; ``reads`` says which registers (masks) instructions may read besides
    what their words say; ``model`` is the CPU's, as for `decode`.
    """
    with uncollected():
        return ProgramLiveness(Program(sections, functions, model), abi, data, implicit, reads or {})
