"""The instructions of IBM's embedded cores before Book E, for CPUs that have them: the 405."""

from __future__ import annotations

from kgdbpatch.isa.extension import Extension
from kgdbpatch.isa.table import Row

__all__ = ["MODEL", "ROWS", "UNIT"]

MODEL = "405"  # of `kgdbpatch.isa.models`
UNIT = Extension(MODEL, "405")
ROWS: tuple[Row, ...] = UNIT.rows
