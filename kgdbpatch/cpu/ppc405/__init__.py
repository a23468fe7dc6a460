"""The 405: real mode as on the 6xx, and a TLB that software fills in turns."""

from kgdbpatch.cpu.ppc405.family import Ppc405

__all__ = ["Ppc405"]
