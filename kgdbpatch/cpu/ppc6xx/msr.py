"""The machine state register of the 6xx, as far as the client asks for it (PEM 2.3.1)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from kgdbpatch.isa.msr import KernelSpace

__all__ = [
    "DR",
    "EE",
    "IR",
    "KERNEL_SPACE",
    "ME",
    "POW",
    "PR",
    "RI",
    "in_process",
    "interruptible",
    "kernel_status",
    "napping",
    "translated",
]

POW, EE, PR, ME, IR, DR, RI = 0x4_0000, 0x8000, 0x4000, 0x1000, 0x20, 0x10, 0x2
KERNEL_SPACE = KernelSpace((IR, DR), on=IR | DR)
_KNOWN = 0x0207_FF77  # bits a 7xx or 74xx may have set (VEC, POW ... LE); others rule an MSR out


def interruptible(msr: int) -> bool:
    """Tell whether interrupts are on: SRR0 and SRR1 are dead then."""
    return bool(msr & EE)


def napping(msr: int) -> bool:
    """Tell whether the CPU runs nothing before its next interrupt."""
    return bool(msr & POW)


def in_process(msr: int) -> bool:
    """Tell whether the CPU runs a process."""
    return bool(msr & PR)


def translated(msr: int) -> bool:
    """Tell whether the CPU fetches instructions through its MMU."""
    return bool(msr & IR)


def kernel_status(words: npt.NDArray[np.uint32]) -> npt.NDArray[np.bool_]:
    """Tell which words can be an MSR saved in the kernel where it could be interrupted.

    Translation is on there, and interrupts are let in (EE) or a fault can be returned from (ME, RI). A kernel
    of somebody's own need not use RI, or machine checks; but small numbers are no MSR.
    """
    wanted = (words & np.uint32(IR | DR | PR)) == IR | DR
    wanted &= ((words & np.uint32(EE)) != 0) | ((words & np.uint32(ME | RI)) == ME | RI)
    return np.asarray(wanted & ((words & np.uint32(~_KNOWN & 0xFFFF_FFFF)) == 0))
