"""How many registers are free at a kernel's sites: knowing the callees, and by convention only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kgdbpatch.analysis import regset
from kgdbpatch.analysis.interprocedural import FREEABLE, BlockLiveness, ProgramLiveness
from kgdbpatch.analysis.regset import EVERYTHING, RegSet
from kgdbpatch.isa.registers import mask

__all__ = ["Precision", "by_convention", "precision"]

_GPRS = np.uint64(0xFFFF_FFFF)
_ALL = np.uint64(EVERYTHING)
_LR = np.uint64(regset.from_mask(mask("lr")))
_HOLDERS = np.uint64(regset.from_mask(mask("lr", "ctr")))


@dataclass(frozen=True, slots=True)
class Precision:
    """Of ``sites`` instructions: the mean number of free general registers, and the share of those
    with room for a springboard, two free general registers and LR or CTR; both also when callees
    are known by convention only.
    """

    sites: int
    free: float
    free_by_convention: float
    roomy: float
    roomy_by_convention: float


def by_convention(liveness: ProgramLiveness, least: RegSet) -> BlockLiveness:
    """Solve with nothing known of callees but whether they keep to the convention.

    ``least`` is what is live at returns in any case.
    """
    blocks, convention, conforming = liveness.blocks, liveness.convention, liveness.conforming
    at_return = np.where(conforming, least | convention.preserved | convention.returns, _ALL)

    (reads, keeps), dead_behind = liveness.calls(), liveness.summaries.dead_behind
    known = np.flatnonzero(blocks.callee >= 0)
    dead = dead_behind[known]
    relied_on = convention.volatile & ~convention.returns & ~dead & ~_LR
    other = ~conforming[blocks.callee[known]] | (relied_on != 0)
    reads[known] = np.where(other, _ALL, convention.direct)
    keeps[known] = np.where(other, ~np.uint64(0), ~(dead | convention.returns))
    reads[blocks.internal_call | blocks.conditional_call] = _ALL

    exits = liveness.leaving(at_return)
    unknown = blocks.escapes | blocks.rfi | (blocks.indirect & ~blocks.resolved & ~liveness.pointers)
    tails = np.flatnonzero((blocks.tail >= 0) & ~unknown)
    owner = blocks.owner[tails]
    other = liveness.program.decoded.conditional[blocks.last[tails]]
    other = other | ~conforming[blocks.tail[tails]] | ~conforming[owner]
    exits[tails] = np.where(other, _ALL, convention.tail | at_return[owner])

    kill, value = liveness.transfer.kill, liveness.dataflow.empty()
    gen = liveness.transfer.uses | reads & ~kill
    fixups = liveness.fill(value, liveness.dataflow.everything, gen, keeps & ~kill, exits)
    return BlockLiveness(value, liveness.dataflow.after(value, exits) & keeps | reads, at_return, fixups)


def precision(liveness: ProgramLiveness) -> Precision:
    """Return the figures of a kernel's functions."""
    found, inside = liveness.solve(), liveness.program.function >= 0
    figures = []
    for result in (found, by_convention(liveness, found.exits)):
        free = FREEABLE & ~liveness.everywhere(result)[inside]
        gprs = np.bitwise_count(free & _GPRS)
        roomy = (gprs >= 2) & (free & _HOLDERS != 0)
        figures.append((float(gprs.mean()), float(roomy.mean())))
    (free_now, roomy_now), (free_before, roomy_before) = figures
    return Precision(int(inside.sum()), free_now, free_before, roomy_now, roomy_before)
