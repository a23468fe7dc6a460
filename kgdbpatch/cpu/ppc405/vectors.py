"""Where exceptions of the 405 enter, from EVPR on (PPC405 core user's manual, "Exception vector offsets")."""

from __future__ import annotations

from kgdbpatch.cpu.vectors import Vectors

__all__ = ["VECTORS"]

_PROGRAM = 0x700
_OTHERS = (0xC00, 0xF20, 0x1000, 0x1010, 0x1020, 0x1100, 0x1200, 0x2000)

VECTORS = Vectors((*range(0x100, 0x900, 0x100), *_OTHERS), _PROGRAM)
