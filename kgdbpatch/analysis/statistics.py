"""Count what is in a whole image at array speed: the figures of ``kgdbpatch analyze``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from kgdbpatch.analysis import regset
from kgdbpatch.analysis.blocks import Blocks
from kgdbpatch.analysis.program import ImplicitEdges, Program
from kgdbpatch.analysis.tables import Indirect, resolve
from kgdbpatch.isa.decode import Kind
from kgdbpatch.isa.fields import Words

__all__ = ["Figures", "analyze", "figures"]


@dataclass(frozen=True, slots=True)
class Figures:
    """Counts over an image; blocks and edges are those within functions.

    ``undecoded`` words are no instruction of any PowerPC model. ``indirect_branches`` are those
    through CTR that are no calls: all targets are known of ``indirect_resolved`` (``jump_tables``,
    and branches to a number); ``indirect_tail_calls`` leave the function through a pointer. Of the
    rest nothing is known.
    """

    functions: int
    instructions: int
    undecoded: int
    blocks: int
    edges: int
    calls: int
    indirect_branches: int
    indirect_resolved: int
    jump_tables: int
    indirect_tail_calls: int


def _shape(program: Program, tables: Mapping[int, Sequence[int]]) -> tuple[int, int]:
    """Return the numbers of blocks and edges, as `FlowGraph` makes them of each function."""
    kind, function = program.decoded.kind, program.function
    count = len(kind)
    if not count:
        return 0, 0
    source, _, target = program.branches
    at = np.where(target >= 0, target, 0)
    local = (target >= 0) & (function[at] == function[source]) & (function[source] >= 0)
    entry = program.entry[function[source]] if len(program.entry) else source
    calls = kind[source] == Kind.CALL
    internal = calls & local & (target != source + 1) & (target != entry)
    ends_block = program.transfers.copy()
    ends_block[source[internal]] = True
    jumps = local & (~calls | internal)
    switched = [target for targets in tables.values() for target in targets]

    leader = np.zeros(count + 1, dtype=np.bool_)
    leader[program.entry] = function[program.entry] == np.arange(len(program.entry))
    leader[1:] |= ends_block
    leader[target[jumps]] = True
    leader[program.index_of(np.array(switched, dtype=np.int64))] = True
    inside = function >= 0
    is_leader = leader[:count] & inside
    last = np.ones(count, dtype=np.bool_)
    last[:-1] = is_leader[1:] | (function[1:] != function[:-1])
    falls = last & inside & (~program.transfers | program.decoded.conditional)
    falls[:-1] &= function[1:] == function[:-1]
    falls[-1:] = False
    falls &= program.contiguous
    return int(is_leader.sum()), int(falls.sum() + jumps.sum()) + len(switched)


def figures(program: Program, indirect: Indirect) -> Figures:
    """Count what is in a program whose indirect branches have been looked into."""
    blocks, edges = _shape(program, indirect.tables)
    kinds = np.bincount(program.decoded.kind, minlength=len(Kind))
    is_call = program.decoded.kind == Kind.CALL
    places = program.index_of(np.array(sorted(indirect.constants), dtype=np.int64))
    return Figures(
        functions=len(program.entry),
        instructions=len(program.words),
        undecoded=int(kinds[Kind.UNKNOWN]),
        blocks=blocks,
        edges=edges,
        calls=int(kinds[Kind.CALL]),
        indirect_branches=int(kinds[Kind.INDIRECT]),
        indirect_resolved=len(indirect.tables) + int((~is_call[places]).sum()),
        jump_tables=len(indirect.tables),
        indirect_tail_calls=len(indirect.pointers),
    )


def analyze(
    sections: Sequence[tuple[int, Words]],
    functions: Sequence[tuple[int, int]],
    data: Sequence[tuple[int, bytes]] = (),
    implicit: ImplicitEdges | None = None,
) -> Figures:
    """Count what is in code ``sections`` (address, words) and ``functions`` (address, bytes).

    Jump tables are looked for in ``data`` (address, bytes).
    """
    program = Program(sections, functions)
    return figures(program, resolve(Blocks(program, implicit), regset.defs(program.decoded), data))
