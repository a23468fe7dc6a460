"""Tell quickly of nearly all functions that nothing in them is of interest to hazards.py and stack.py."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from enum import IntFlag
from functools import lru_cache, reduce
from operator import or_

import numpy as np
import numpy.typing as npt

from kgdbpatch.analysis.stack import keeps_stack
from kgdbpatch.isa.decode import Kind, decode, decode_array
from kgdbpatch.isa.fields import Words
from kgdbpatch.isa.registers import mask

__all__ = ["Hazard", "HazardousWords", "hazard", "may_have_hazard", "possible_hazards", "surely_harmless"]

_R1, _SRR = mask("r1"), mask("srr0", "srr1")

_STORES = (36, 38, 44, 52, 54)  # primary opcodes that change no register
_COMPARES, _BRANCHES, _FLOAT_LOADS = (10, 11), (16, 18), (48, 50)
_INTO_D = (14, 15, 32, 34, 40, 42)  # addi, addis, lwz, lbz, lhz, lha
_INTO_A = (20, 21, 24, 25, 26, 27, 28, 29)  # rlwimi, rlwinm, ori ... andis.
_STWU, _OPCODE_19, _OPCODE_31 = 37, 19, 31
_MOVES_SPR = (339, 467)
_SRR_FIELDS = (26 << 5, 27 << 5)  # SPR numbers stand with their halves exchanged
_HAZARDOUS_XO = (20, 146, 150, 533, 597)  # lwarx, mtmsr, stwcx., and the string loads: registers from rD on


def _members(size: int, *groups: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    found = np.zeros(size, np.bool_)
    found[[number for group in groups for number in group]] = True
    return found


_PLAIN = _members(64, _STORES, _COMPARES, _BRANCHES, _FLOAT_LOADS)
_DEFINES_D, _DEFINES_A = _members(64, _INTO_D), _members(64, _INTO_A)
_IS_HAZARDOUS, _IS_MOVE, _IS_SRR = (
    _members(1024, group) for group in (_HAZARDOUS_XO, _MOVES_SPR, _SRR_FIELDS)
)


def surely_harmless(words: Words) -> npt.NDArray[np.bool_]:
    """Return which words are of the common ones that neither change r1, nor hold reservations, nor switch."""
    primary = words >> np.uint32(26)
    d, a = words >> np.uint32(21) & np.uint32(31), words >> np.uint32(16) & np.uint32(31)
    extended = words >> np.uint32(1) & np.uint32(0x3FF)
    spr = words >> np.uint32(11) & np.uint32(0x3FF)
    hazardous = _IS_HAZARDOUS[extended] | (_IS_MOVE[extended] & _IS_SRR[spr])
    sure = _PLAIN[primary] | (_DEFINES_D[primary] & (d != 1)) | (_DEFINES_A[primary] & (a != 1))
    sure |= (primary == _STWU) & (a == 1)
    sure |= primary == _OPCODE_19
    sure |= (primary == _OPCODE_31) & (d != 1) & (a != 1) & ~hazardous
    decoded = decode_array(words)
    kind = decoded.kind
    unknown = (kind == Kind.UNKNOWN) | (kind == Kind.FOREIGN) | (kind == Kind.RFI) | decoded.invalid
    surely: npt.NDArray[np.bool_] = sure & ~unknown
    return surely


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
