"""Hold register sets of many instructions at once: one ``uint64`` each, floating point and AltiVec left out.

Bits 0-31 are r0-r31; bits 32 upwards are what `kgdbpatch.isa.registers` has from cr0 on. The
floating-point and vector registers are never handed out as free, so whole-image passes do without them.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from kgdbpatch.isa.decode import Decoded, Kind
from kgdbpatch.isa.fields import FIELDS
from kgdbpatch.isa.match import rows
from kgdbpatch.isa.registers import ALL, CRS, FPRS, GPRS, STATE, VECTORS, mask

__all__ = ["ALWAYS", "EVERYTHING", "FREEABLE", "RETURNS", "RegSet", "defs", "from_mask", "to_mask", "uses"]

RegSet = npt.NDArray[np.uint64]

_LOW32 = 0xFFFFFFFF
_CHUNK = 1 << 15  # words: they and the temporaries stay in the cache
_LEFT_OUT = frozenset({"fD", "fS", "fA", "fB", "fC", "vD", "vS", "vA", "vB", "vC"})


def from_mask(mask: int) -> int:
    """Return the set that has the registers of a mask, floating point and AltiVec left out."""
    return (mask & _LOW32) | ((mask & ~VECTORS) >> 64) << 32


def to_mask(regset: int) -> int:
    """Return the register mask of a set; it has no floating-point and no vector registers."""
    return (regset & _LOW32) | (regset >> 32) << 64


EVERYTHING = from_mask(ALL)
RETURNS = 1 << 63  # no register: marks paths that come back, see `summaries`
_CRS = from_mask(CRS)
ALWAYS = np.uint64(from_mask(STATE | mask("fpscr", "r1", "r2", "r13")))
FREEABLE = np.uint64(from_mask((GPRS & ~mask("r1", "r2", "r13")) | CRS | mask("lr", "ctr", "ca", "ov", "so")))


@lru_cache(maxsize=4)
def _fixed(name: str) -> RegSet:
    """Return what each form reads or writes whatever its operands are; unknown forms read all."""
    every = rows()
    masks = [from_mask(getattr(row, name) & ~FPRS) for row in every]
    if name == "uses":
        for form, row in enumerate(every):
            if row.kind in (Kind.UNKNOWN, Kind.FOREIGN):
                masks[form] = EVERYTHING
    return np.array(masks, dtype=np.uint64)


@lru_cache(maxsize=4)
def _operands(name: str) -> tuple[tuple[str, npt.NDArray[np.bool_]], ...]:
    """Return the operand fields that occur, each with the forms that have it."""
    every = rows()
    found = []
    for field in FIELDS:
        has = np.array([field in getattr(row, name) for row in every], dtype=np.bool_)
        if field not in _LEFT_OUT and has.any():
            found.append((field, has))
    return tuple(found)


def _effects(decoded: Decoded, fixed: str, operands: str, nothing: int) -> RegSet:
    """Return what words read or write, ``nothing`` of those in an invalid form."""
    result = np.empty(len(decoded.words), dtype=np.uint64)
    for start in range(0, len(result), _CHUNK):
        piece = slice(start, start + _CHUNK)
        part = Decoded(decoded.words[piece], decoded.form[piece])
        result[piece] = _effects_of(part, fixed, operands)
        result[piece][part.invalid] = nothing
    return result


def _effects_of(decoded: Decoded, fixed: str, operands: str) -> RegSet:
    result = _fixed(fixed).take(decoded.form)
    for name, has in _operands(operands):
        chosen = has.take(decoded.form)
        if operands == "use_fields" and name in ("A", "S", "B"):
            chosen &= ~decoded.cancelled
        at = np.flatnonzero(chosen)
        field = FIELDS[name]
        bits = field.array(decoded.words[at])
        result[at] |= bits if field.half == 0 else bits << np.uint64(32)
    return result


def defs(decoded: Decoded) -> RegSet:
    """Return what each word may change; an invalid form changes nothing for certain."""
    return _effects(decoded, "defs", "def_fields", 0)


def uses(decoded: Decoded) -> RegSet:
    """Return what each word depends on; an unknown or invalid one depends on everything."""
    return _effects(decoded, "uses", "use_fields", EVERYTHING)
