"""The instructions of Book E and of SPE, for CPUs that have them: the e500."""

from __future__ import annotations

from kgdbpatch.isa.extension import Extension
from kgdbpatch.isa.table import Row

__all__ = ["MODEL", "ROWS", "UNIT"]

MODEL = "e500"  # of `kgdbpatch.isa.models`
UNIT = Extension(MODEL, "e500")
ROWS: tuple[Row, ...] = UNIT.rows
