"""Sum up every function of a program: what it really reads, overwrites and preserves.

Bottom-up over the call graph, strongly connected functions together until nothing changes.
A *summary* answers for a call what a calling convention can only promise:

* ``overwrites``: written on every path that comes back; has all bits of a function that never does.
* ``reads``: may be read before it is written, in the function or below it.
* ``proven``: the part of ``reads`` that does not rest on an assumption about unknown code.
* ``may_change``: may be written, in the function or below it.
* ``keeps``: preserved registers that are untouched, or saved and put back.

What is unknown reads everything and overwrites nothing. What a call leaves undefined by the
convention is taken as dead behind it only where nothing behind it reads it: compilers let a
register live on through a call when they know that the callee leaves it alone (gcc's -fipa-ra).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kgdbpatch.analysis import regset
from kgdbpatch.analysis.arrays import Grouped, marked, spread, union
from kgdbpatch.analysis.call_order import call_edges, levels
from kgdbpatch.analysis.dataflow import BackwardDataflow, Part
from kgdbpatch.analysis.effects import BlockTransfer
from kgdbpatch.analysis.program import Flags, Indices
from kgdbpatch.analysis.regset import EVERYTHING, RETURNS, RegSet
from kgdbpatch.analysis.saves import PRESERVED, Saves, field, may_be_framed
from kgdbpatch.isa.abi import ABI
from kgdbpatch.isa.registers import mask

__all__ = ["Convention", "Summaries", "summarize"]

_ONES = np.uint64(0xFFFFFFFFFFFFFFFF)
_ALL = np.uint64(EVERYTHING)
_LR = np.uint64(regset.from_mask(mask("lr")))
_LAST_ARGUMENTS = np.uint64(regset.from_mask(mask("r8", "r9", "r10")))
_KEPT = mask("r1", "r2", "r13", "so", "fpscr")


@dataclass(frozen=True)
class Convention:
    """A calling convention in register sets; ``pointed`` is what a call through a pointer may read."""

    volatile: np.uint64
    arguments: np.uint64
    pointed: np.uint64
    tail: np.uint64
    preserved: np.uint64
    returns: np.uint64
    direct: np.uint64

    @classmethod
    def of(cls, abi: ABI) -> Convention:
        """Return the sets of an ABI."""

        def one(registers: int) -> np.uint64:
            return np.uint64(regset.from_mask(registers))

        pointed = abi.args | abi.indirect | _KEPT
        return cls(
            volatile=one(abi.volatile),
            arguments=one(abi.args | (abi.indirect if abi.red_zone else 0)),
            pointed=one(pointed),
            tail=one(pointed | abi.preserved | mask("lr")),
            preserved=one(abi.preserved),
            returns=one(abi.returns),
            direct=one(abi.args | _KEPT | (abi.indirect if abi.red_zone else 0)),
        )


@dataclass(frozen=True)
class Summaries:
    """Per function, by number; see the module."""

    overwrites: RegSet
    reads: RegSet
    proven: RegSet
    may_change: RegSet
    keeps: RegSet
    # per block, for what comes after: registers that a call leaves undefined and nobody reads
    dead_behind: RegSet

    @property
    def no_return(self) -> Flags:
        """Whether each function never comes back to its caller."""
        result: Flags = (self.overwrites & np.uint64(RETURNS)) != 0
        return result


class _Summing:
    def __init__(
        self,
        dataflow: BackwardDataflow,
        saves: Saves,
        transfer: BlockTransfer,
        convention: Convention,
        pointers: Flags,
        forges_return: Flags,
        likely: tuple[Indices, Indices],
    ) -> None:
        self.dataflow, self.blocks, self.transfer = dataflow, dataflow.blocks, transfer
        self.convention, self.pointers = convention, pointers
        blocks = self.blocks
        count = len(blocks.program.entry)
        self.likely = likely
        self.calls = call_edges(blocks, likely)
        self.zero = np.zeros(len(blocks.first), dtype=np.uint64)
        self.call = np.flatnonzero(blocks.callee >= 0)
        self.tail = np.flatnonzero(blocks.tail >= 0)
        self.unknown = np.flatnonzero(blocks.unknown_call)
        self.opaque_call = np.flatnonzero(blocks.internal_call | blocks.conditional_call)
        self.escapes = blocks.escapes | blocks.rfi | (blocks.indirect & ~blocks.resolved & ~pointers)
        self.escapes = self.escapes | (blocks.returns & forges_return[blocks.owner])
        self.compiled, self.keeps, self.saved = saves.compiled, saves.keeps, saves.saved
        # compilers set arguments for every call: that they are read proves nothing, except in
        # assembler, which may pass on what an earlier call left in them
        self.sets = np.where(self.compiled, convention.arguments, np.uint64(0))
        self.cleared = np.full(count, _ONES, dtype=np.uint64) & np.uint64(0)  # not certainly overwritten
        self.proven, self.reads = self.cleared.copy(), self.cleared.copy()
        self.may_change = self._may_change()
        self.allowed = self._what_may_be_given()
        self.survives = dataflow.empty()
        self.evidence = dataflow.empty()
        self.wanted = dataflow.empty()
        self.dead_behind = self.zero.copy()

    def _may_change(self) -> RegSet:
        blocks, volatile = self.blocks, self.convention.volatile
        total = union(blocks.owner, self.transfer.kill & volatile, len(blocks.program.entry))
        unknown = blocks.links & (blocks.callee < 0) | self.escapes | self.pointers
        total[blocks.owner[unknown]] |= volatile
        return spread(total, *self.calls)

    def run(self) -> None:
        """Sum up all functions, those called before those that call."""
        blocks = self.blocks
        order = levels(self.calls, len(blocks.program.entry))
        exits = self.zero.copy()
        exits[blocks.returns | self.escapes | self.pointers] = _ONES
        leaves = self.zero.copy()
        leaves[self.escapes] = _ALL
        leaves[self.pointers] = self.convention.direct | _LR
        proofs = self.zero.copy()
        # the interrupted code reads whatever it is not given back; assembler goes where nobody knows
        proofs[blocks.rfi | self.escapes & ~self.compiled[blocks.owner]] = _ALL
        self._exits = exits, proofs, leaves
        self._keep = [~self.transfer.kill for _ in range(3)]
        self._gen = [self.zero.copy(), self.transfer.proven.copy(), self.transfer.wanted.copy()]
        self._constant()
        count = len(order.functions)
        calls, tails = (
            Grouped(order.level[blocks.owner[some]], some, count) for some in (self.call, self.tail)
        )
        at, target = (Grouped(order.level[blocks.owner[self.likely[0]]], part, count) for part in self.likely)
        groups, likely = [], []
        for number, functions in enumerate(order.functions):
            some = self.dataflow.part(functions)
            if len(some.blocks):
                again = order.recursive[number]
                groups.append((functions, some, calls.at(number), tails.at(number), again))
                likely.append((at.at(number), target.at(number)))
        for group in groups:
            self._survival(*group)
            self._proof(*group)
        self._undefined()
        for group, pairs in zip(groups, likely, strict=True):
            self._reading(*group, *pairs)

    def _constant(self) -> None:
        """Enter what calls of unknown code do."""
        kill, volatile = self.transfer.kill, self.convention.volatile
        self._keep[1][self.unknown] &= ~volatile
        self._keep[1][self.opaque_call] = 0
        self._gen[2][self.opaque_call] = _ALL
        self._gen[2][self.unknown] |= self.convention.direct & ~kill[self.unknown]
        outward = np.flatnonzero(self.blocks.outward)
        self._gen[2][outward] |= self.convention.preserved & ~kill[outward]

    def _entries(self, functions: Indices, value: RegSet, missing: np.uint64) -> RegSet:
        entry = self.blocks.entry[functions]
        found = np.full(len(functions), missing)
        own = np.flatnonzero(entry >= 0)
        found[own] = value[entry[own]]
        return found

    def _by_convention(self, functions: Indices, found: RegSet) -> RegSet:
        """Leave out what a compiled function cannot read of its caller, whatever its callees do."""
        return np.where(self.compiled[functions], found & self.allowed[functions], found)

    def _what_may_be_given(self) -> RegSet:
        """Return what each compiled function may read of its caller.

        Besides what the convention gives that is what its own code reads before it is set: who writes
        in assembler may well make a frame, and a nested function is given r11 (its static chain). Code
        that is jumped to may be the cold half of a function, which has the registers of the other
        half, but for those that it saves itself.
        """
        blocks, transfer, calls = self.blocks, self.transfer, self.call
        keep = ~transfer.kill
        keep[calls] &= ~(self.convention.volatile & self.may_change[blocks.callee[calls]])
        keep[self.unknown] &= ~self.convention.volatile
        keep[self.opaque_call] = 0
        own = self.dataflow.empty()
        self.dataflow.solve(own, self.dataflow.everything, transfer.proven, keep, self.zero)
        jumped_to = marked(len(self.compiled), blocks.tail[self.tail])
        functions = np.arange(len(self.compiled))
        read = self._entries(functions, own, _ALL) & np.where(jumped_to, _ALL & ~self.saved, _ALL)
        given = self.convention.direct | _LR | self.convention.returns
        return given | self._entries(functions, transfer.proven, _ALL) | read

    def _survival(self, functions: Indices, some: Part, calls: Indices, tails: Indices, again: bool) -> None:
        blocks, keep, exits = self.blocks, self._keep[0], self._exits[0]
        while True:
            keep[calls] = ~self.transfer.kill[calls] & self.cleared[blocks.callee[calls]]
            exits[tails] = self.cleared[blocks.tail[tails]] | np.where(
                blocks.returns[tails], _ONES, 0
            ).astype(np.uint64)
            self.dataflow.solve(self.survives, some, self._gen[0], keep, exits)
            found = self._entries(functions, self.survives, _ONES)
            comes_back = (found & np.uint64(RETURNS)) != 0
            found = np.where(comes_back, found | self.keeps[functions], found)
            if _settled(self.cleared, functions, found) or not again:
                return

    def _proof(self, functions: Indices, some: Part, calls: Indices, tails: Indices, again: bool) -> None:
        blocks, gen, keep, exits = self.blocks, self._gen[1], self._keep[1], self._exits[1]
        callee = blocks.callee[calls]
        undefined = self.convention.volatile & self.may_change[callee]
        keep[calls] = ~self.transfer.kill[calls] & self.cleared[callee] & ~undefined
        while True:
            unset = self.proven[callee] & ~self.sets[blocks.owner[calls]]
            gen[calls] = self.transfer.proven[calls] | unset & ~self.transfer.kill[calls]
            exits[tails] = self.proven[blocks.tail[tails]] & ~self.sets[blocks.owner[tails]]
            self.dataflow.solve(self.evidence, some, gen, keep, exits)
            found = self._entries(functions, self.evidence, np.uint64(0))
            found = self._by_convention(functions, found)
            if _settled(self.proven, functions, found) or not again:
                return

    def _undefined(self) -> None:
        """Find what calls leave undefined and nothing behind them reads.

        A result register counts as undefined only where the callee overwrites it: a function may
        return its argument where it found it. Compilers may let an argument register live on
        through a call of a function that leaves it alone; a function of which one caller does so
        is taken to be called like that by all.
        """
        blocks, convention, calls = self.blocks, self.convention, self.call
        callee = blocks.callee[calls]
        behind = self._behind_calls()
        left_alone = convention.arguments & ~self.may_change
        relied_on = behind[calls] & left_alone[callee] != 0
        left_alone = np.where(marked(len(left_alone), callee[relied_on]), left_alone, np.uint64(0))
        undefined = convention.volatile & ~convention.returns
        dead = undefined & ~behind[calls] & ~left_alone[callee]
        asked = dead & convention.arguments & ~self.may_change[callee]
        passed = self._passed_on(blocks.owner[calls[asked != 0]])
        self.dead_behind[calls] = dead & ~(asked & passed[calls])
        self.dead_behind[self.unknown] = undefined & ~behind[self.unknown]

    def _behind_calls(self) -> RegSet:
        """Return what code surely reads of what comes after each block, the callers' code included.

        A caller that reads on what its callee and all that is below leave alone reads it behind the calls
        within the callee, too.
        """
        blocks, exits, volatile = self.blocks, self._exits[1], self.convention.volatile
        calls, tails, returns = self.call, self.tail, np.flatnonzero(blocks.returns)
        alone = volatile & ~self.convention.returns & ~self.may_change
        wanted = self.cleared & np.uint64(0)
        while True:
            behind = self.dataflow.after(self.evidence, exits)
            more = wanted.copy()
            np.bitwise_or.at(more, blocks.callee[calls], behind[calls] & alone[blocks.callee[calls]])
            np.bitwise_or.at(more, blocks.tail[tails], more[blocks.owner[tails]] & alone[blocks.tail[tails]])
            changed = np.flatnonzero(more != wanted)
            if not len(changed):
                return behind
            wanted = more
            exits[returns] |= wanted[blocks.owner[returns]]
            self.dataflow.solve(
                self.evidence, self.dataflow.part(changed), self._gen[1], self._keep[1], exits
            )

    def _passed_on(self, functions: Indices) -> RegSet:
        """Return, per block of functions, the arguments that later calls of known ones take from behind it.

        An argument that no call in between changes may have been set for the later one.
        """
        blocks, transfer, calls = self.blocks, self.transfer, self.call
        callee = blocks.callee[calls]
        given = np.where(self._variadic(), np.uint64(0), self.proven & self.convention.arguments)
        gen, keep, exits = transfer.proven.copy(), self._keep[1].copy(), self._exits[1].copy()
        gen[calls] |= given[callee] & ~transfer.kill[calls]
        keep[calls] = ~transfer.kill[calls] & ~(self.convention.volatile & self.may_change[callee])
        exits[self.tail] |= given[blocks.tail[self.tail]]
        value = self.dataflow.empty()
        self.dataflow.solve(value, self.dataflow.closed(functions), gen, keep, exits)
        return self.dataflow.after(value, exits)

    def _variadic(self) -> Flags:
        """Tell which functions store all registers that may hold arguments, as variadic ones do."""
        program = self.blocks.program
        stores = program.having(0xFC000000, 36 << 26)
        stores = stores[may_be_framed(program.words[stores])]
        register = field(program.words[stores], 21).astype(np.uint64)
        stored = union(program.function[stores], np.uint64(1) << register, len(program.entry))
        result: Flags = (stored & _LAST_ARGUMENTS) == _LAST_ARGUMENTS
        return result

    def _reading(
        self,
        functions: Indices,
        some: Part,
        calls: Indices,
        tails: Indices,
        again: bool,
        block: Indices,
        target: Indices,
    ) -> None:
        blocks, gen, keep, exits = self.blocks, self._gen[2], self._keep[2], self._exits[2]
        callee = blocks.callee[calls]
        keep[calls] = ~self.transfer.kill[calls] & self.cleared[callee] & ~self.dead_behind[calls]
        unknown = some.blocks[blocks.unknown_call[some.blocks]]
        keep[unknown] = ~self.transfer.kill[unknown] & ~self.dead_behind[unknown]
        constant = self._exits[2][tails].copy()
        through = self.pointers[block]
        calling, called = block[~through], target[~through]
        while True:
            gen[calls] = self.transfer.wanted[calls] | self.reads[callee] & ~self.transfer.kill[calls]
            exits[tails] = constant | self.reads[blocks.tail[tails]]
            np.bitwise_or.at(exits, block[through], self.reads[target[through]])
            np.bitwise_or.at(gen, calling, self.reads[called] & ~self.transfer.kill[calling])
            self.dataflow.solve(self.wanted, some, gen, keep, exits)
            found = self._entries(functions, self.wanted, _ALL)
            found = self._by_convention(functions, found)
            # preserved registers that the function does not put back were read when it saved them
            found |= PRESERVED & ~self.keeps[functions]
            if _settled(self.reads, functions, found) or not again:
                return


def _settled(known: RegSet, functions: Indices, found: RegSet) -> bool:
    """Make ``found`` what is known of functions; tell whether it was already."""
    same = bool((known[functions] == found).all())
    known[functions] = found
    return same


def summarize(
    dataflow: BackwardDataflow,
    saves: Saves,
    transfer: BlockTransfer,
    abi: ABI,
    pointers: Flags,
    forges_return: Flags,
    likely: tuple[Indices, Indices],
) -> Summaries:
    """Sum up all functions.

    ``pointers`` are the blocks that end in a tail call through a pointer, ``forges_return`` the functions
    that return to an address of their own making; ``likely`` are blocks that call, or jump to, what
    memory holds, and the functions that it holds at first.
    """
    convention = Convention.of(abi)
    summing = _Summing(dataflow, saves, transfer, convention, pointers, forges_return, likely)
    summing.run()
    return Summaries(
        overwrites=~summing.cleared,
        reads=summing.reads,
        proven=summing.proven,
        may_change=summing.may_change,
        keeps=summing.keeps,
        dead_behind=summing.dead_behind,
    )
