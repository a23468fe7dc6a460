"""AltiVec's instructions, for CPUs that have them: the 74xx."""

from __future__ import annotations

from kgdbpatch.isa.extension import Extension
from kgdbpatch.isa.table import Row

__all__ = ["MODEL", "ROWS", "UNIT", "has_altivec"]

MODEL = "7450"  # of `kgdbpatch.isa.models`
UNIT = Extension(MODEL, "altivec")
ROWS: tuple[Row, ...] = UNIT.rows


def has_altivec(model: str) -> bool:
    """Tell whether a model has AltiVec."""
    return model == MODEL
