"""Divide a function into basic blocks and link them into a flow graph (paper, section 3.2.3)."""

from __future__ import annotations

import enum
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from kgdbpatch.isa.decode import Instruction, Kind, decode

__all__ = ["Block", "Edge", "EdgeKind", "Exit", "ExitKind", "FlowGraph", "Words"]

Words = npt.NDArray[np.uint32] | Sequence[int]


class EdgeKind(enum.Enum):
    """How control gets from one block to the next."""

    FALL = "fall"
    TAKEN = "taken"
    CALL = "call"
    IMPLICIT = "hidden"
    TABLE = "table"


class ExitKind(enum.Enum):
    """How control leaves a function."""

    RETURN = "return"
    TAIL = "tail"
    INDIRECT = "indirect"
    RFI = "rfi"
    OFF_END = "off end"
    NO_RETURN = "no return"


class Edge(NamedTuple):
    """An edge between two blocks, by their starts."""

    source: int
    target: int
    kind: EdgeKind


class Exit(NamedTuple):
    """An exit at the end of a block; ``target`` is known of tail calls only."""

    kind: ExitKind
    target: int | None = None


@dataclass(frozen=True, slots=True)
class Block:
    """Instructions run in order, the edges into and out of them, and the exits of the function."""

    start: int
    end: int
    instructions: tuple[Instruction, ...]
    successors: tuple[Edge, ...]
    predecessors: tuple[Edge, ...]
    exits: tuple[Exit, ...]

    def __repr__(self) -> str:
        return f"Block(0x{self.start:08x}, 0x{self.end:08x})"

    @property
    def last(self) -> Instruction:
        """The instruction at the block's end."""
        return self.instructions[-1]


class FlowGraph:
    """The flow graph of one function.

    ``implicit`` maps an instruction to the places where control may go from it without it being a
    branch: fix-ups of faulting accesses, targets of branches the kernel patches in.
    A call to a place inside the function other than its start has edges to there and behind.
    ``tables`` gives the targets of indirect branches that are known; nothing comes behind the
    calls in ``final``, which do not return. The words in ``data`` are no code: control goes nowhere
    from there. ``model`` is the CPU's, as for `decode`.
    """

    def __init__(
        self,
        words: Words,
        address: int,
        implicit: Mapping[int, Sequence[int]] | None = None,
        tables: Mapping[int, Sequence[int]] | None = None,
        final: Container[int] = (),
        data: Container[int] = (),
        model: str = "",
    ) -> None:
        self._tables, self._final, self._data = tables or {}, final, data
        self.address = address
        self.instructions = tuple(decode(int(word), address + 4 * n, model) for n, word in enumerate(words))
        self.end = address + 4 * len(self.instructions)
        implicit = implicit or {}
        self._implicit = {at: tuple(implicit[at]) for at in range(address, self.end, 4) if at in implicit}

    def __repr__(self) -> str:
        return f"FlowGraph(0x{self.address:08x}, 0x{self.end:08x})"

    def __contains__(self, address: object) -> bool:
        return isinstance(address, int) and self.address <= address < self.end and not address & 3

    def at(self, address: int) -> Instruction:
        """Return the instruction at an address of the function."""
        return self.instructions[(address - self.address) // 4]

    def is_internal_call(self, instruction: Instruction) -> bool:
        """Tell whether an instruction calls a place inside the function (not just to learn the PC)."""
        target = instruction.target
        return (
            instruction.kind is Kind.CALL
            and target is not None
            and target in self
            and target not in (self.address, instruction.address + 4)
        )

    def is_data(self, address: int) -> bool:
        """Tell whether a word is known to be no code."""
        return address in self._data

    def _leaders(self) -> list[int]:
        leaders = {self.address}
        for instruction in self.instructions:
            after = instruction.address + 4
            if instruction.kind.transfers or self.is_internal_call(instruction):
                leaders.add(after)
                if instruction.target is not None:
                    leaders.add(instruction.target)
                leaders.update(self._tables.get(instruction.address, ()))
            elif instruction.address in self._final:
                leaders.add(after)
        for one, next_ in pairwise(range(self.address, self.end, 4)):
            if self.is_data(one) != self.is_data(next_):
                leaders.add(next_)
        for site, targets in self._implicit.items():
            leaders.update((site, site + 4, *targets))
        return sorted(leader for leader in leaders if leader in self)

    def _leave(self, start: int, last: Instruction) -> tuple[list[Edge], list[Exit]]:
        """Return the edges and exits of a block by its last instruction."""
        edges, exits = list[Edge](), list[Exit]()
        if self.is_data(last.address):
            return edges, exits
        falls = last.conditional or not last.kind.transfers
        if last.kind in (Kind.BRANCH, Kind.JUMP):
            assert last.target is not None
            if last.target in self:
                edges.append(Edge(start, last.target, EdgeKind.TAKEN))
            else:
                exits.append(Exit(ExitKind.TAIL, last.target))
        elif last.kind is Kind.RETURN:
            exits.append(Exit(ExitKind.RETURN))
        elif last.kind is Kind.INDIRECT and last.address in self._tables:
            edges += [Edge(start, target, EdgeKind.TABLE) for target in self._tables[last.address]]
        elif last.kind is Kind.INDIRECT:
            exits.append(Exit(ExitKind.INDIRECT))
        elif last.address in self._final:
            exits.append(Exit(ExitKind.NO_RETURN))
            falls = False
        elif last.kind is Kind.RFI:
            exits.append(Exit(ExitKind.RFI))
        elif self.is_internal_call(last):
            assert last.target is not None
            edges.append(Edge(start, last.target, EdgeKind.CALL))
        if self.is_data(last.address + 4):
            pass  # the call before data does not come back there
        elif falls and last.address + 4 < self.end:
            edges.append(Edge(start, last.address + 4, EdgeKind.FALL))
        elif falls:
            exits.append(Exit(ExitKind.OFF_END))
        for target in self._implicit.get(last.address, ()):
            if target in self:
                edges.append(Edge(start, target, EdgeKind.IMPLICIT))
            else:
                exits.append(Exit(ExitKind.INDIRECT, target))
        return edges, exits

    @cached_property
    def blocks(self) -> dict[int, Block]:
        """The blocks by their start, in the order of addresses."""
        spans = list(pairwise([*self._leaders(), self.end]))
        leaving = {start: self._leave(start, self.at(end - 4)) for start, end in spans}
        incoming = defaultdict[int, list[Edge]](list)
        for edges, _ in leaving.values():
            for edge in edges:
                incoming[edge.target].append(edge)
        blocks = {}
        for start, end in spans:
            edges, exits = leaving[start]
            code = self.instructions[(start - self.address) // 4 : (end - self.address) // 4]
            blocks[start] = Block(start, end, code, tuple(edges), tuple(incoming[start]), tuple(exits))
        return blocks

    @cached_property
    def _starts(self) -> list[int]:
        return list(self.blocks)

    def block_at(self, address: int) -> Block:
        """Return the block that an address of the function is in."""
        return self.blocks[self._starts[bisect_right(self._starts, address) - 1]]

    def successors(self, address: int) -> list[int]:
        """Return where control may go within the function from an instruction of it."""
        block = self.block_at(address)
        if address != block.end - 4:
            return [address + 4]
        return [edge.target for edge in block.successors]

    def onward(self, starts: Iterable[int], ends: Callable[[Instruction], bool]) -> set[int]:
        """Return what may run from some addresses on, up to what ``ends`` it, that included."""
        found, pending = set[int](), list(starts)
        while pending:
            here = pending.pop()
            if here not in found:
                found.add(here)
                pending += () if ends(self.at(here)) else self.successors(here)
        return found

    @cached_property
    def unreached(self) -> tuple[Block, ...]:
        """Blocks that no known edge reaches: targets of jump tables and fix-ups, padding, data."""
        return tuple(b for b in self.blocks.values() if not b.predecessors and b.start != self.address)
