"""Solve backward data flow over a function: ``in = (out - def) | use`` (paper, section 3.2.3)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from kgdbpatch.analysis.flow import Block, EdgeKind, Exit, FlowGraph
from kgdbpatch.isa.decode import Instruction, Kind

__all__ = ["Problem", "Solution", "may_fault", "solve"]

_FAULTING = frozenset({Kind.LOAD, Kind.STORE, Kind.TRAP, Kind.SYSTEM})
_NOP = 0x60000000


def may_fault(instruction: Instruction) -> bool:
    """Tell whether control may go to a fix-up from here, or a kernel may patch a branch in here."""
    return instruction.kind in _FAULTING or instruction.word == _NOP


@dataclass(frozen=True, slots=True)
class Problem:
    """What is asked: per instruction (def, use), and what lives on where control leaves."""

    transfer: Callable[[Instruction], tuple[int, int]]
    leave: Callable[[Exit, Instruction], int]
    # blocks that no edge reaches are entered from faulting instructions and indirect branches
    orphans_at_faults: bool = False
    orphans_at_indirect: bool = False


class Solution:
    """The registers live before every instruction."""

    def __init__(self, graph: FlowGraph, problem: Problem) -> None:
        self._graph, self._problem = graph, problem
        self._effects = [problem.transfer(instruction) for instruction in graph.instructions]
        self.live_in: dict[int, int] = dict.fromkeys(graph.blocks, 0)
        self._orphans = 0
        self._run()

    def _effect(self, instruction: Instruction) -> tuple[int, int]:
        kill, gen = self._effects[(instruction.address - self._graph.address) // 4]
        if self._problem.orphans_at_faults and may_fault(instruction):
            gen |= self._orphans
        return kill, gen

    def _out(self, block: Block) -> int:
        """Return what is live after the last instruction of a block, hidden edges left aside."""
        live = 0
        for edge in block.successors:
            if edge.kind is not EdgeKind.HIDDEN:
                live |= self.live_in[edge.target]
        for leaving in block.exits:
            live |= self._problem.leave(leaving, block.last)
        if self._problem.orphans_at_indirect and block.last.kind is Kind.INDIRECT:
            live |= self._orphans
        return live

    def _hidden(self, block: Block) -> int:
        live = 0
        for edge in block.successors:
            if edge.kind is EdgeKind.HIDDEN:
                live |= self.live_in[edge.target]
        return live

    def _summary(self, block: Block) -> tuple[int, int]:
        kill, gen = 0, 0
        for instruction in reversed(block.instructions):
            defs, uses = self._effect(instruction)
            gen = (gen & ~defs) | uses
            kill |= defs
        return kill, gen

    def _run(self) -> None:
        blocks = self._graph.blocks
        while True:
            summaries = {start: self._summary(block) for start, block in blocks.items()}
            pending = dict.fromkeys(reversed(blocks))
            while pending:
                start = next(iter(pending))
                del pending[start]
                block = blocks[start]
                kill, gen = summaries[start]
                live = (self._out(block) & ~kill) | gen | self._hidden(block)
                if live != self.live_in[start]:
                    self.live_in[start] = live
                    pending.update(dict.fromkeys(edge.source for edge in block.predecessors))
            orphans = 0
            for block in self._graph.orphans:
                orphans |= self.live_in[block.start]
            if orphans == self._orphans:
                return
            self._orphans = orphans

    def before(self, address: int) -> int:
        """Return what is live just before the instruction at an address."""
        block = self._graph.block_at(address)
        live = self._out(block)
        for instruction in reversed(block.instructions):
            defs, uses = self._effect(instruction)
            live = (live & ~defs) | uses
            if instruction.address == block.start:
                live |= self._hidden(block)
            if instruction.address == address:
                break
        return live

    def after(self, address: int) -> int:
        """Return what is live after the instruction at an address, on whatever way it goes."""
        block = self._graph.block_at(address)
        return self._out(block) if address == block.end - 4 else self.before(address + 4)


def solve(graph: FlowGraph, problem: Problem) -> Solution:
    """Solve a problem over a flow graph."""
    return Solution(graph, problem)
