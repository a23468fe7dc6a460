"""Tell quickly of nearly all functions that nothing in them is of interest to hazards.py and stack.py."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from kgdbpatch.analysis.stack import keeps_stack
from kgdbpatch.isa.decode import Kind, decode, decode_array
from kgdbpatch.isa.fields import Words
from kgdbpatch.isa.registers import mask

__all__ = ["may_have_hazard"]

_R1, _SRR = mask("r1"), mask("srr0", "srr1")
_HAZARDOUS = ("lwarx", "mtmsr")

_STORES = (36, 38, 44, 52, 54)  # primary opcodes that change no register
_COMPARES, _BRANCHES, _FLOAT_LOADS = (10, 11), (16, 18), (48, 50)
_INTO_D = (14, 15, 32, 34, 40, 42)  # addi, addis, lwz, lbz, lhz, lha
_INTO_A = (20, 21, 24, 25, 26, 27, 28, 29)  # rlwimi, rlwinm, ori ... andis.
_STWU, _OPCODE_19, _OPCODE_31 = 37, 19, 31
_MOVES_SPR = (339, 467)
_SRR_FIELDS = (26 << 5, 27 << 5)  # SPR numbers stand with their halves exchanged
_HAZARDOUS_XO = (20, 146, 533, 597)  # lwarx, mtmsr, and the string loads: registers from rD on


def _members(size: int, *groups: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    found = np.zeros(size, np.bool_)
    found[[number for group in groups for number in group]] = True
    return found


_PLAIN = _members(64, _STORES, _COMPARES, _BRANCHES, _FLOAT_LOADS)
_DEFINES_D, _DEFINES_A = _members(64, _INTO_D), _members(64, _INTO_A)
_IS_HAZARDOUS, _IS_MOVE, _IS_SRR = (
    _members(1024, group) for group in (_HAZARDOUS_XO, _MOVES_SPR, _SRR_FIELDS)
)


def _surely_harmless(words: Words) -> npt.NDArray[np.bool_]:
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


@lru_cache(maxsize=1 << 14)
def _is_hazardous(word: int) -> bool:
    instruction = decode(word)
    return (
        instruction.mnemonic in _HAZARDOUS
        or instruction.kind is Kind.RFI
        or bool((instruction.uses | instruction.defs) & _SRR)
        or (bool(instruction.defs & _R1) and not keeps_stack(instruction))
    )


def may_have_hazard(words: Words) -> bool:
    """Tell whether a word takes a reservation, switches translation, touches SRR0 or SRR1 or makes r1 anew.

    Words that may be no instructions count as such, as they do elsewhere.
    """
    words = np.asarray(words, np.uint32)
    return any(map(_is_hazardous, words[~_surely_harmless(words)].tolist()))
