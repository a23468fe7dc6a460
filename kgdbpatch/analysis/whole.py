"""Survey a whole image at array speed: the figures of ``kgdbpatch analyze``, and odd callees."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kgdbpatch.analysis import lane
from kgdbpatch.analysis.blocks import Blocks
from kgdbpatch.analysis.convention import odd_results
from kgdbpatch.analysis.program import Program
from kgdbpatch.analysis.tables import Indirect, resolve
from kgdbpatch.isa.abi import ABI
from kgdbpatch.isa.decode import Decoded, Kind, decode_array
from kgdbpatch.isa.fields import Words
from kgdbpatch.isa.registers import CRS

__all__ = ["Figures", "analyze", "figures", "odd_callees"]

_Indices = npt.NDArray[np.int64]
_Flags = npt.NDArray[np.bool_]

_LOOK_AHEAD = 16  # instructions looked at behind a call for odd results
_LOW64 = (1 << 64) - 1


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


class _Section:
    """One code section: its decoded words, which function each is in, and its direct branches."""

    def __init__(self, address: int, words: Words, functions: _Indices) -> None:
        self.address, self.words = address, words
        self.decoded: Decoded = decode_array(words)
        count = len(words)
        starts, ends = functions[:, 0], functions[:, 0] + functions[:, 1]
        first, last = np.searchsorted(starts, (address, address + 4 * count))
        # first word of the function that each word is in; -1 outside of functions
        self.function = np.full(count, -1, dtype=np.int64)
        for start, end in zip(starts[first:last].tolist(), ends[first:last].tolist(), strict=True):
            self.function[(start - address) // 4 : (end - address) // 4] = (start - address) // 4
        self.source, displacement, absolute = self.decoded.branches()
        origin = np.where(absolute, 0, address + 4 * self.source)
        self.target = (origin + displacement) & 0xFFFFFFFF
        self.target_index = (self.target - address) // 4
        inside = (self.target >= address) & (self.target < address + 4 * count)
        at = np.where(inside, self.target_index, 0)
        if count:
            inside &= (self.function[at] == self.function[self.source]) & (self.function[self.source] >= 0)
        self.local: _Flags = inside

    def calls(self) -> _Flags:
        """Tell which direct branches link."""
        return np.equal(self.decoded.kind[self.source], Kind.CALL)


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
    inner = calls & local & (target != source + 1) & (target != entry)
    ends_block = program.transfers.copy()
    ends_block[source[inner]] = True
    jumps = local & (~calls | inner)
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
    hidden: Mapping[int, Sequence[int]] | None = None,
) -> Figures:
    """Count what is in code ``sections`` (address, words) and ``functions`` (address, bytes).

    Jump tables are looked for in ``data`` (address, bytes).
    """
    program = Program(sections, functions)
    return figures(program, resolve(Blocks(program, hidden), lane.defs(program.decoded), data))


def _sections(sections: Sequence[tuple[int, Words]], functions: Sequence[tuple[int, int]]) -> list[_Section]:
    table = np.array(sorted(functions), dtype=np.int64).reshape(-1, 2)
    return [_Section(address, np.asarray(words, dtype=np.uint32), table) for address, words in sections]


def _odd_calls(section: _Section, abi: ABI) -> _Flags:
    """Tell which direct branches are calls behind which odd results are read."""
    odd = odd_results(abi)
    wanted = np.uint64(odd & _LOW64), np.uint64(odd >> 64)
    calls = np.nonzero(section.calls())[0]
    at = section.source[calls] + 1
    own = section.function[section.source[calls]]
    read = np.zeros(len(calls), dtype=np.bool_)
    written = np.zeros((2, len(calls)), dtype=np.uint64)
    active = np.arange(len(calls))
    crs = np.uint64(CRS >> 64)
    stop = np.isin(np.arange(len(Kind)), [k for k in Kind if k.transfers and k is not Kind.BRANCH])
    stop[[Kind.CALL, Kind.TRAP, Kind.SYSCALL, Kind.UNKNOWN, Kind.FOREIGN]] = True
    for _ in range(_LOOK_AHEAD):
        active = active[at[active] < len(section.words)]
        active = active[(section.function[at[active]] == own[active]) & (own[active] >= 0)]
        here = Decoded(section.words[at[active]], section.decoded.form[at[active]])
        # an unknown word or an invalid form reads everything for safety: that is no evidence
        plain = ~np.isin(here.kind, (Kind.UNKNOWN, Kind.FOREIGN)) & ~here.invalid
        for half, (defs, uses) in enumerate(zip(here.defs(), here.uses(), strict=True)):
            if half == 1:  # mfcr reads all of CR for the sake of a bit, which is no evidence either
                uses[(uses & crs) == crs] &= ~crs
            read[active] |= plain & ((uses & ~written[half, active] & wanted[half]) != 0)
            written[half, active] |= defs
        at[active] += 1
        active = active[~stop[here.kind] & ~read[active]]
    result: _Flags = np.zeros(len(section.source), dtype=np.bool_)
    result[calls] = read
    result &= section.target_index != section.source + 1  # which only reads the PC
    return result


def odd_callees(
    sections: Sequence[tuple[int, Words]], functions: Sequence[tuple[int, int]], abi: ABI
) -> frozenset[int]:
    """Return the functions some caller of which reads a register that calls leave undefined.

    Such a function returns more than its convention says. What it jumps to at its end is of the
    same kind.
    """
    surveyed = _sections(sections, functions)
    odd: set[int] = set()
    tails: dict[int, set[int]] = {}
    for section in surveyed:
        odd |= set(section.target[_odd_calls(section, abi)].tolist())
        jumps = (section.decoded.kind[section.source] == Kind.JUMP) & ~section.local
        origin = section.address + 4 * section.function[section.source[jumps]]
        for start, target in zip(origin.tolist(), section.target[jumps].tolist(), strict=True):
            tails.setdefault(start, set()).add(target)
    pending = list(odd)
    while pending:
        for target in tails.get(pending.pop(), ()):
            if target not in odd:
                odd.add(target)
                pending.append(target)
    return frozenset(odd)
