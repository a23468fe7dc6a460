"""The AltiVec instructions, for CPUs that have them: the 74xx.

On any other CPU the same words are something else (SPE, multiply-accumulate) or nothing, so `match` looks for
them, and before all others, only where the model says that AltiVec is there. Their forms are numbers behind
all others.
"""

from __future__ import annotations

from kgdbpatch.isa import rows_altivec
from kgdbpatch.isa.table import Row, parsed

__all__ = ["MODEL", "ROWS", "has_altivec"]

MODEL = "7450"  # of `kgdbpatch.isa.models`
ROWS: tuple[Row, ...] = tuple(parsed(rows_altivec.ROWS))


def has_altivec(model: str) -> bool:
    """Tell whether a model has AltiVec."""
    return model == MODEL
