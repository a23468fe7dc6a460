"""Tell which stores of preserved registers only save them, to be put back by the same function.

A function that keeps to its convention stores what it must preserve and loads it again before it
returns: such a store reads nothing of its caller's. Whatever else stores a preserved register
reads it: routines that save registers for others (``_savegpr_N``, ``saveFP``, ``setjmp``, a
context switch). A store is a save where

* it goes to the function's own frame: below the r1 that the caller had, by r1 or by what the same
  block has made of r1; and
* the function loads the register from a frame again, or goes to a routine that does it for it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from kgdbpatch.analysis import regset
from kgdbpatch.analysis.arrays import distinct, joined, marked, spread, union
from kgdbpatch.analysis.blocks import Blocks
from kgdbpatch.analysis.program import Flags, Indices
from kgdbpatch.analysis.regset import RegSet
from kgdbpatch.isa.fields import Words
from kgdbpatch.isa.registers import mask

__all__ = ["PRESERVED", "Saves", "field", "find_saves", "last_setters", "may_be_framed", "may_save"]

_FRAME_BASES = marked(32, [1, 11, 12, 30, 31])
_SAVED_CRS = np.uint64(regset.from_mask(mask("cr2", "cr3", "cr4")))
PRESERVED = np.uint64(0xFFFFC000) | _SAVED_CRS
_GPRS = np.uint64(0xFFFFC000)
_LWZ, _LMW, _STW, _STMW = 32, 46, 36, 47
_MTCRF = 144


class Saves(NamedTuple):
    """Per word whether it is a save; per function whether it makes a frame, and what it keeps and puts back.

    ``compiled`` functions make a frame as compilers do it (``stwu r1,-n(r1)``). ``keeps`` are the
    preserved registers that a function leaves alone or puts back, ``restores`` those that it puts
    back, ``saved`` those that it saves.
    """

    words: Flags
    compiled: Flags
    keeps: RegSet
    restores: RegSet
    saved: RegSet


def field(words: Words, shift: int | Indices) -> Words:
    """Return what stands in the 5-bit fields of words, so many bits above their lowest."""
    result: Words = words >> np.asarray(shift, np.uint32) & np.uint32(31)
    return result


def last_setters(changes: RegSet, places: Indices, registers: Words, first: Indices) -> Indices:
    """Return the last word before each place, but from ``first`` on, that changes a register; -1: none."""
    found, pending, back = np.full(len(places), -1), np.arange(len(places)), 1
    while len(pending):
        at = places[pending] - back
        pending, at = pending[at >= first[pending]], at[at >= first[pending]]
        changed = (changes[at] >> registers[pending].astype(np.uint64) & np.uint64(1)).astype(np.bool_)
        found[pending[changed]] = at[changed]
        pending, back = pending[~changed], back + 1
    return found


def may_be_framed(words: Words) -> Flags:
    """Tell which loads and stores go to what may be a stack frame."""
    result: Flags = _FRAME_BASES.take(field(words, 16))
    return result


def may_save(words: Words) -> Flags:
    """Tell which words store preserved registers to what may be a stack frame."""
    major = words >> np.uint32(26)
    result: Flags = (major == _STW) | (major == _STMW)
    at = np.flatnonzero(result)
    stores = words[at]
    result[at] = may_be_framed(stores) & (field(stores, 21) >= 14)
    return result


def _may_restore(words: Words) -> Flags:
    """Tell which words load from what may be a stack frame, or move to CR fields."""
    major = words >> np.uint32(26)
    result: Flags = may_be_framed(words) & ((major == _LWZ) | (major == _LMW))
    result |= (major == 31) & ((words >> np.uint32(1) & np.uint32(0x3FF)) == _MTCRF)
    return result


def _frames(blocks: Blocks, reached: Flags) -> tuple[Flags, Indices]:
    """Tell which functions make a frame, and how large each is at most (stwux: without bound)."""
    program = blocks.program
    made = program.having(0xFFFF8003, 0x94218000)
    made = made[reached[made]]
    size = np.zeros(len(program.entry), dtype=np.int64)
    np.maximum.at(size, program.function[made], 0x10000 - (program.words[made] & 0xFFFF).astype(np.int64))
    compiled = size > 0
    grown = program.having(0xFFFF07FE, 0x7C21016E)  # stwux r1,r1
    grown = grown[reached[grown]]
    size[program.function[grown]] = 1 << 32
    compiled[program.function[grown]] = True
    return compiled, size


def _put_back(blocks: Blocks, restored: RegSet, compiled: Flags) -> RegSet:
    """Add what routines without a frame (``_restgpr_N``) put back for those that go to them."""
    sources, targets = joined((blocks.across, blocks.calls, blocks.tail_calls))
    useful = np.flatnonzero(~compiled[targets])
    return spread(restored, sources[useful], targets[useful])


def _restored_by_itself(blocks: Blocks, function: int, loads: Indices, defs: RegSet) -> np.uint64:
    """Return what a function loads on the paths from its start, of ``loads`` (words)."""
    start = int(blocks.entry[function])
    seen, pending = {start}, [start]
    while pending:
        block = pending.pop()
        for after in (int(blocks.fall[block]), int(blocks.taken[block])):
            if after >= 0 and after not in seen and blocks.owner[after] == function:
                seen.add(after)
                pending.append(after)
    mine = [int(word) for word in loads.tolist() if int(blocks.of_word[word]) in seen]
    return np.uint64(np.bitwise_or.reduce(defs[mine])) if mine else np.uint64(0)


def _away_from_r1(blocks: Blocks, stores: Indices, base: Words, defs: RegSet) -> tuple[Flags, Indices, Flags]:
    """Tell of stores whether their base was made of r1 in the same block: mr, addi, or the back chain.

    Also by how much it is above r1, and whether above what r1 was before the function moved it.
    """
    first = blocks.first[blocks.of_word[stores]]
    setter = last_setters(defs, stores, base, first)
    word = blocks.program.words[setter]
    d, a = field(word, 21), field(word, 16)
    added = (word >> np.uint32(26) == 14) & (d == base) & (a == 1)
    moved = ((word & np.uint32(0xFC00FFFE)) == (0x7C000378 | 1 << 11)) & (d == 1) & (a == base)
    chained = ((word & np.uint32(0xFC1FFFFF)) == 0x80010000) & (d == base)
    good: Flags = (setter >= 0) & (added | moved | chained)
    callers: Flags = chained | (last_setters(defs, stores, np.ones_like(base), first) > setter)
    return good, np.where(added, _signed(word), 0), callers


def _signed(words: Words) -> Indices:
    """Return the immediates of words."""
    low = (words & np.uint32(0xFFFF)).astype(np.int64)
    return (low ^ 0x8000) - 0x8000


def find_saves(blocks: Blocks, defs: RegSet, reached: Flags) -> Saves:
    """Find the saves of a program; ``defs`` are the sets of what words change.

    ``reached`` tells of words whether control may come there; the others (data) are no evidence.
    """
    program, count = blocks.program, len(blocks.program.entry)
    words, inside = program.words, program.inside
    written = np.flatnonzero(inside & ((defs & PRESERVED) != 0))
    framed = _may_restore(words[written])
    written, loads = written[~framed], written[framed & reached[written]]
    compiled, size = _frames(blocks, reached)
    own = union(program.function[loads], defs[loads], count)
    restored = _put_back(blocks, own, compiled)
    keeps = PRESERVED & ~(union(program.function[written], defs[written], count) & ~restored)

    stores = np.flatnonzero(((program.primary == _STW) | (program.primary == _STMW)) & inside)
    stores = stores[may_save(words[stores])]
    owner, register = program.function[stores], field(words[stores], 21).astype(np.uint64)
    base = field(words[stores], 16)
    stored = np.where(
        words[stores] >> np.uint32(26) == _STW, np.uint64(1) << register, _GPRS >> register << register
    )
    stored &= np.uint64(0xFFFFFFFF)
    # a routine without a frame of its own saves for itself only what it puts back itself
    # and so does one that is entered elsewhere as well, as a prologue and an epilogue of one name are
    parts = ~compiled
    parts[np.append(blocks.entered, blocks.across[1])] = True
    for function in distinct(owner[parts[owner]]).tolist():
        first, end = loads.searchsorted((program.entry[function], program.end[function]))
        mine = loads[first:end]
        mine = mine[program.function[mine] == function]
        restored[function] = _restored_by_itself(blocks, function, mine, defs)
    offset = _signed(words[stores])
    by_stack = base == 1
    good = np.where(by_stack, offset < size[owner], False)
    others = np.flatnonzero(~by_stack)
    made, above, callers = _away_from_r1(blocks, stores[others], base[others], defs)
    good[others] = made & (offset[others] + above < np.where(callers, 0, size[owner[others]]))
    good &= (stored & ~restored[owner]) == 0
    saved = union(owner[good], stored[good], count)
    mfcr = distinct(program.function[program.having(0xFC1FFFFF, 0x7C000026)])
    saved[mfcr] |= restored[mfcr] & _SAVED_CRS
    return Saves(marked(len(words), stores[good]), compiled, keeps, restored & PRESERVED, saved)
