"""Tell quickly of nearly all functions that nothing in them is of interest to hazards.py and stack.py."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from enum import IntFlag
from functools import lru_cache, reduce
from operator import or_

import numpy as np
import numpy.typing as npt

from kgdbpatch.analysis.regset import effects, from_mask
from kgdbpatch.analysis.stack import keeps_stack
from kgdbpatch.isa.decode import Kind, decode, decode_array
from kgdbpatch.isa.fields import Words
from kgdbpatch.isa.registers import mask

__all__ = ["Hazard", "HazardousWords", "hazard", "may_have_hazard", "possible_hazards", "surely_harmless"]

_R1, _SRR = mask("r1"), mask("srr0", "srr1")
_CHANGED = np.uint64(from_mask(_R1 | _SRR | mask("msr", "reservation")))
_READ = np.uint64(from_mask(_SRR))


def surely_harmless(words: Words) -> npt.NDArray[np.bool_]:
    """Return which words neither change r1, nor hold reservations, nor switch, nor touch SRR0 or SRR1."""
    changed, read = effects(decode_array(words))
    return np.equal(changed & _CHANGED | read & _READ, 0)


class Hazard(IntFlag):
    """What an instruction does that hazards.py and stack.py look for."""

    RESERVES = 1  # lwarx, stwcx.
    SWITCHES = 2  # mtmsr
    RETURNS = 4  # rfi
    EXCEPTION = 8  # reads or writes SRR0 or SRR1, rfi aside
    STACK = 16  # makes r1 anew


_BY_NAME = {"lwarx": Hazard.RESERVES, "stwcx.": Hazard.RESERVES, "mtmsr": Hazard.SWITCHES}


@lru_cache(maxsize=1 << 14)
def hazard(word: int) -> int:
    """Return what an instruction does of what `Hazard` names."""
    instruction = decode(word)
    found = _BY_NAME.get(instruction.mnemonic, 0)
    if instruction.kind is Kind.RFI:
        found |= Hazard.RETURNS
    elif (instruction.uses | instruction.defs) & _SRR:
        found |= Hazard.EXCEPTION
    if instruction.defs & _R1 and not keeps_stack(instruction):
        found |= Hazard.STACK
    return int(found)


def possible_hazards(words: Words) -> Hazard:
    """Return what some of the words do; what may be no instructions counts as such, as it does elsewhere."""
    words = np.asarray(words, np.uint32)
    return Hazard(reduce(or_, map(hazard, words[~surely_harmless(words)].tolist()), 0))


def may_have_hazard(words: Words) -> bool:
    """Tell whether a word is hazardous; if none is, hazards.py and stack.py find nothing among them."""
    return bool(possible_hazards(words))


class HazardousWords:
    """The hazardous words of a whole program, ``sections`` (address, words): few, and found at once."""

    def __init__(self, sections: Iterable[tuple[int, Words]]) -> None:
        found: list[tuple[int, int]] = []
        for address, words in sections:
            words = np.asarray(words, np.uint32)
            at = np.flatnonzero(~surely_harmless(words))
            pairs = zip((address + 4 * at).tolist(), map(hazard, words[at].tolist()), strict=True)
            found += [pair for pair in pairs if pair[1]]
        found.sort()
        self._places, self._what = [place for place, _ in found], [what for _, what in found]

    def within(self, start: int, end: int) -> Hazard:
        """Return what some of the words in ``[start, end)`` do, as `possible_hazards`."""
        first, behind = bisect_left(self._places, start), bisect_left(self._places, end)
        return Hazard(reduce(or_, self._what[first:behind], 0))
