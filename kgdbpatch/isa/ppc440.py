"""The instructions of Book E and of IBM's embedded cores, for CPUs that have them: the 440."""

from __future__ import annotations

from kgdbpatch.isa.extension import Extension
from kgdbpatch.isa.table import Row

__all__ = ["MODEL", "ROWS", "UNIT"]

MODEL = "440"  # of `kgdbpatch.isa.models`
UNIT = Extension(MODEL, "440")
ROWS: tuple[Row, ...] = UNIT.rows
