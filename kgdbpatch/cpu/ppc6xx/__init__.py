"""The 6xx, 7xx and 74xx: BATs and a hashed page table, real mode, MSR[RI], cache lines of 32 bytes."""

from kgdbpatch.cpu.ppc6xx.family import Ppc6xx

__all__ = ["Ppc6xx"]
