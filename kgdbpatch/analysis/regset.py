"""Hold register sets of many instructions at once: one ``uint64`` each, floating point and AltiVec left out.

Bits 0-31 are r0-r31; bits 32 upwards are what `kgdbpatch.isa.registers` has from cr0 on. The
floating-point and vector registers are never handed out as free, so whole-image passes do without them.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from kgdbpatch.isa.decode import Decoded, Kind
from kgdbpatch.isa.fields import FIELDS, Words
from kgdbpatch.isa.match import rows
from kgdbpatch.isa.registers import ALL, CRS, FPRS, GPRS, SPE, STATE, VECTORS, mask

__all__ = [
    "ALWAYS",
    "EVERYTHING",
    "FREEABLE",
    "RETURNS",
    "RegSet",
    "defs",
    "effects",
    "from_mask",
    "to_mask",
    "uses",
]

RegSet = npt.NDArray[np.uint64]

_LOW32 = 0xFFFFFFFF
_CHUNK = 1 << 16  # words: they and the temporaries stay in the cache
_LEFT_OUT = frozenset({"fD", "fS", "fA", "fB", "fC", "vD", "vS", "vA", "vB", "vC"})


def from_mask(mask: int) -> int:
    """Return the set that has the registers of a mask, floating point and AltiVec left out."""
    return (mask & _LOW32) | ((mask & ~(VECTORS | SPE)) >> 64) << 32


def to_mask(regset: int) -> int:
    """Return the register mask of a set; it has no floating-point and no vector registers."""
    return (regset & _LOW32) | (regset >> 32) << 64


EVERYTHING = from_mask(ALL)
RETURNS = 1 << 63  # no register: marks paths that come back, see `summaries`
ALWAYS = np.uint64(from_mask(STATE | mask("fpscr", "r1", "r2", "r13")))
FREEABLE = np.uint64(from_mask((GPRS & ~mask("r1", "r2", "r13")) | CRS | mask("lr", "ctr", "ca", "ov", "so")))


@lru_cache(maxsize=4)
def _fixed(name: str) -> RegSet:
    """Return what each form reads or writes whatever its operands are; unknown forms read all."""
    every = rows()
    masks = np.array([from_mask(getattr(row, name) & ~FPRS) for row in every], dtype=np.uint64)
    if name == "uses":
        kinds = np.array([row.kind for row in every], dtype=np.uint8)
        masks[(kinds == Kind.UNKNOWN) | (kinds == Kind.FOREIGN)] = EVERYTHING
    return masks


@lru_cache(maxsize=4)
def _operands(name: str) -> tuple[tuple[str, npt.NDArray[np.bool_]], ...]:
    """Return the operand fields that occur, each with the forms that have it."""
    found: dict[str, npt.NDArray[np.bool_]] = {}
    for form, row in enumerate(rows()):
        for field in row.def_fields if name == "def_fields" else row.use_fields:
            found.setdefault(field, np.zeros(len(rows()), dtype=np.bool_))[form] = True
    return tuple((field, has) for field, has in found.items() if field not in _LEFT_OUT)


class _Known:
    """What words were found to read and write, by their bits 0-15 and 31, where no other bits say it."""

    def __init__(self) -> None:
        self.found = np.zeros(1 << 17, dtype=np.bool_)
        self.defs, self.uses = np.zeros((2, 1 << 17), dtype=np.uint64)
        other = [0] * 64  # the bits that say it besides, by primary opcode
        for row in rows():
            other[row.match >> 26] |= row.mask & 0xFFFE
        for primary, fields in {(row.match >> 26, row.def_fields + row.use_fields) for row in rows()}:
            for name in set(fields) - _LEFT_OUT:
                other[primary] |= FIELDS[name].bits & 0xFFFE
        self._sufficient = np.equal(other, 0)

    def keys(self, words: Words) -> npt.NDArray[np.int64]:
        """Return where words of which that is true are in the arrays."""
        return (words >> np.uint32(16) | (words & np.uint32(1)) << np.uint32(16)).astype(np.int64)

    def learn(self, keys: npt.NDArray[np.int64], defs: RegSet, uses: RegSet) -> None:
        """Enter what words read and write, as far as that is true of them."""
        self.defs[keys], self.uses[keys] = defs, uses
        self.found[keys] = self._sufficient.take(keys >> 10 & 63)


_known = lru_cache(maxsize=1)(_Known)


def effects(decoded: Decoded) -> tuple[RegSet, RegSet]:
    """Return what each word may change and what it depends on, as `defs` and `uses` do."""
    known = _known()
    defs, uses = np.empty((2, len(decoded.words)), dtype=np.uint64)
    for start in range(0, len(defs), _CHUNK):
        piece = slice(start, start + _CHUNK)
        words, form = decoded.words[piece], decoded.form[piece]
        keys = known.keys(words)
        new = np.flatnonzero(~known.found.take(keys))
        found = _effects(Decoded(words[new], form[new]))
        known.learn(keys[new], *found)
        for result, by_key, those in ((defs, known.defs, found[0]), (uses, known.uses, found[1])):
            part = result[piece]
            by_key.take(keys, out=part, mode="clip")
            part[new] = those
    return defs, uses


def _effects(decoded: Decoded) -> tuple[RegSet, RegSet]:
    defs = _fixed("defs").take(decoded.form)
    uses = _fixed("uses").take(decoded.form)
    for result, operands in ((defs, "def_fields"), (uses, "use_fields")):
        for name, has in _operands(operands):
            chosen = has.take(decoded.form)
            if operands == "use_fields" and name in ("A", "S", "B"):
                chosen &= ~decoded.cancelled
            at = np.flatnonzero(chosen)
            field = FIELDS[name]
            bits = field.array(decoded.words[at])
            result[at] |= bits if field.half == 0 else bits << np.uint64(32)
    defs[decoded.invalid], uses[decoded.invalid] = 0, EVERYTHING
    return defs, uses


def defs(decoded: Decoded) -> RegSet:
    """Return what each word may change; an invalid form changes nothing for certain."""
    return effects(decoded)[0]


def uses(decoded: Decoded) -> RegSet:
    """Return what each word depends on; an unknown or invalid one depends on everything."""
    return effects(decoded)[1]
