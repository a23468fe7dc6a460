"""Find who may call a function unseen, and which functions forge their return address."""

from __future__ import annotations

import numpy as np

from kgdbpatch.analysis.arrays import distinct, equal_pairs, marked, runs
from kgdbpatch.analysis.blocks import Blocks
from kgdbpatch.analysis.program import Flags, Indices, Program
from kgdbpatch.analysis.regset import RegSet
from kgdbpatch.analysis.saves import field, last_setters, may_be_framed
from kgdbpatch.isa.decode import Kind
from kgdbpatch.isa.fields import Words

__all__ = ["address_taken", "made_by_halves", "makes_return_address", "references"]


def made_by_halves(program: Program, places: Indices) -> tuple[Indices, Indices, Indices]:
    """Return (word, number of the place, high half) of immediates that may complete the address of a place.

    The immediate (addi, li, ori) is the low half of the address, and its function holds a lis or an addis of
    the high half.
    """
    immediates = (program.words[program.low_halves] & np.uint32(0xFFFF)).astype(np.int64)
    low, number = equal_pairs(immediates, places & 0xFFFF)
    low = program.low_halves[low]
    high = (places[number] + np.where(program.primary[low] == 14, 0x8000, 0)) >> 16 & 0xFFFF
    some = np.flatnonzero(program.makes_high_half(program.function[low], high))
    return low[some], number[some], high[some]


def _made_from_pc(program: Program, places: Indices) -> tuple[Indices, Indices]:
    """Return (word, number of the place) of an addi that may complete an address from that of a bcl."""
    source, _, target = program.branches
    learning = source[(target == source + 1) & (program.decoded.kind[source] == Kind.CALL)]
    learning = learning[program.inside[learning]]
    adds = program.low_halves[program.primary[program.low_halves] == 14]
    one, other = equal_pairs(program.function[adds], program.function[learning])
    adds, pc = adds[one], program.address[learning[other]] + 4
    low = (program.words[adds] & np.uint32(0xFFFF)).astype(np.int64)
    some, number = equal_pairs(low + pc & 0xFFFF, places & 0xFFFF)
    adds, low, pc = adds[some], low[some], pc[some]
    high = places[number] - pc - ((low ^ 0x8000) - 0x8000) >> 16 & 0xFFFF
    good = (high == 0) | program.makes_high_half(program.function[adds], high)
    return adds[good], number[good]


def references(program: Program, places: Indices | None = None) -> tuple[Indices, Indices]:
    """Return (function, number of the address that it may make), of ``places`` or of all functions.

    A function may make an address when it holds a lis or addis of its high half and an immediate of
    its low half anywhere, in whatever order (clang's is li, addis), or both of the distance from a bcl of
    its own that fetches the pc. Little is found too much.
    """
    starts = program.entry_address if places is None else places
    low, number, _ = made_by_halves(program, starts)
    more, others = _made_from_pc(program, starts)
    low, number = np.append(low, more), np.append(number, others)
    count = max(len(starts), 1)
    keys = distinct(program.function[low] * count + number)
    return keys // count, keys % count


def address_taken(program: Program, stored: Flags, made: Indices) -> Flags:
    """Tell of which functions the address is ``stored`` (see `stored_addresses`), or is ``made`` by code."""
    taken: Flags = stored[program.entry]
    taken[made] = True
    return taken


def _is_saved_lr(words: Words) -> Flags:
    """Tell which words get LR, or load from what may be a frame."""
    framed: Flags = may_be_framed(words)
    major = words >> np.uint32(26)
    framed &= (major == 32) | (major == 46)
    framed |= (words & np.uint32(0xFC1FFFFF)) == 0x7C0802A6  # mflr
    return framed


def makes_return_address(blocks: Blocks, changes: RegSet) -> Flags:
    """Tell which functions set LR from anything but a saved LR, as it was."""
    program = blocks.program
    words = program.words
    sets = program.having(0xFC1FFFFF, 0x7C0803A6)
    starts = runs(program.function)
    setter = last_setters(
        changes, sets, field(words[sets], 21), starts[starts.searchsorted(sets, "right") - 1]
    )
    good = (setter >= 0) & _is_saved_lr(words[setter])
    return marked(len(program.entry), program.function[sets[~good]])
