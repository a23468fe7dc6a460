"""Find who may call a function unseen, and which functions forge their return address."""

from __future__ import annotations

import numpy as np

from kgdbpatch.analysis.blocks import Blocks
from kgdbpatch.analysis.program import Flags, Indices, Program
from kgdbpatch.analysis.regset import RegSet
from kgdbpatch.analysis.saves import FRAME_BASES
from kgdbpatch.isa.fields import Words

__all__ = ["address_taken", "makes_return_address", "references"]


def references(program: Program, places: Indices | None = None) -> tuple[Indices, Indices]:
    """Return (function, number of the address that it may make), of ``places`` or of all functions.

    A function may make an address when it holds a lis of its high half and an immediate of its
    low half anywhere: nothing is missed, and little is found too much.
    """
    words, (high, low) = program.words, program.halves
    starts = program.entry_address if places is None else places
    count = max(len(starts), 1)
    by_half = np.argsort(starts & 0xFFFF, kind="stable")
    halves = (starts & 0xFFFF)[by_half]
    wanted = (words[low] & np.uint32(0xFFFF)).astype(np.int64)
    first, last = np.searchsorted(halves, wanted), np.searchsorted(halves, wanted, "right")
    some = last > first
    low, first, many = low[some], first[some], (last - first)[some]
    source = np.repeat(program.function[low], many)
    offset = np.arange(int(many.sum())) - np.repeat(np.cumsum(many) - many, many)
    target = by_half[np.repeat(first, many) + offset]
    adds = np.repeat(words[low] >> np.uint32(26) == 14, many)
    half = (starts[target] + np.where(adds, 0x8000, 0)) >> 16 & 0xFFFF
    made = np.unique(program.function[high] << 16 | (words[high] & np.uint32(0xFFFF)).astype(np.int64))
    found = np.isin(source << 16 | half, made)
    keys = np.unique(source[found] * count + target[found])
    return keys // count, keys % count


def address_taken(program: Program, stored: Flags) -> Flags:
    """Tell of which functions the address is ``stored`` (see `stored_addresses`) or is made by code."""
    taken: Flags = stored[program.entry]
    taken[references(program)[1]] = True
    return taken


def _is_saved_lr(words: Words) -> Flags:
    """Tell which words get LR, or load from what may be a frame."""
    framed: Flags = np.isin(words >> np.uint32(16) & np.uint32(31), FRAME_BASES)
    framed &= np.isin(words >> np.uint32(26), (32, 46))
    framed |= (words & np.uint32(0xFC1FFFFF)) == 0x7C0802A6  # mflr
    return framed


def makes_return_address(blocks: Blocks, changes: RegSet) -> Flags:
    """Tell which functions set LR from anything but a saved LR, as it was."""
    program = blocks.program
    words = program.words
    sets = np.flatnonzero(((words & np.uint32(0xFC1FFFFF)) == 0x7C0803A6) & (program.function >= 0))
    register = (words[sets] >> np.uint32(21) & np.uint32(31)).astype(np.uint64)
    good = np.zeros(len(sets), dtype=np.bool_)
    pending, back = np.arange(len(sets)), 1
    while len(pending):
        place = sets[pending] - back
        own = (place >= 0) & (program.function[place] == program.function[sets[pending]])
        pending, place = pending[own], place[own]
        written = (changes[place] >> register[pending] & np.uint64(1)).astype(np.bool_)
        good[pending[written & _is_saved_lr(words[place])]] = True
        pending = pending[~written]
        back += 1
    result = np.zeros(len(program.entry), dtype=np.bool_)
    result[program.function[sets[~good]]] = True
    return result
