"""The e500v1 and e500v2 of Book E: TLB1, no real mode, critical interrupts, cache lines of 32 bytes."""

from kgdbpatch.cpu.booke.family import E500

__all__ = ["E500"]
