"""Book E: the e500v1 and e500v2, and the 440; no real mode, critical interrupts, cache lines of 32 bytes."""

from kgdbpatch.cpu.booke.family import E500, Ppc440

__all__ = ["E500", "Ppc440"]
