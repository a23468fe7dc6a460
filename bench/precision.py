"""How many registers are free at a kernel's sites: knowing the callees, and by convention only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kgdbpatch.analysis import regset
from kgdbpatch.analysis.interprocedural import FREEABLE, ProgramLiveness
from kgdbpatch.isa.registers import mask

__all__ = ["Precision", "precision"]

_GPRS = np.uint64(0xFFFF_FFFF)
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


def precision(liveness: ProgramLiveness) -> Precision:
    """Return the figures of a kernel's functions."""
    found, inside = liveness.solve(), liveness.program.function >= 0
    figures = []
    for result in (found, liveness.convention_only(found.exits)):
        free = FREEABLE & ~liveness.everywhere(result)[inside]
        gprs = np.bitwise_count(free & _GPRS)
        roomy = (gprs >= 2) & (free & _HOLDERS != 0)
        figures.append((float(gprs.mean()), float(roomy.mean())))
    (free_now, roomy_now), (free_before, roomy_before) = figures
    return Precision(int(inside.sum()), free_now, free_before, roomy_now, roomy_before)
