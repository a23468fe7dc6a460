"""Where exceptions of the 6xx, 7xx and 74xx enter (MPC750's manual, 4.1)."""

from __future__ import annotations

from kgdbpatch.cpu.vectors import Vectors

__all__ = ["ALTIVEC", "VECTORS"]

_PROGRAM = 0x700
_VECTOR_UNIT = 0xF20  # "AltiVec unavailable" (MPC7450's manual, 4.1), within another's room

VECTORS = Vectors(tuple(range(0x100, 0x1800, 0x100)), _PROGRAM)
ALTIVEC = Vectors(tuple(sorted((*VECTORS.offsets, _VECTOR_UNIT))), _PROGRAM)
