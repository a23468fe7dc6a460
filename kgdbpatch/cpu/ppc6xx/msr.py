"""The machine state register of the 6xx, as far as the client asks for it (PEM 2.3.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from kgdbpatch.cpu.msr import EE, ME, PR, until_saved
from kgdbpatch.isa.msr import KernelSpace
from kgdbpatch.vm.registers import GRegisters

if TYPE_CHECKING:
    from kgdbpatch.component.ports import Session

__all__ = ["DR", "IR", "KERNEL_SPACE", "RI", "kernel_status", "leave_exception", "translated"]

IR, DR, RI = 0x20, 0x10, 0x2
KERNEL_SPACE = KernelSpace((IR, DR), on=IR | DR)
IP, _HIGH = 0x40, 0xFFF0_0000  # the vectors lie there, or at 0
_WAKING = (0x500, 0x900)  # external interrupts and the decrementer
_KNOWN = 0x0207_FF77  # bits a 7xx or 74xx may have set (VEC, POW ... LE); others rule an MSR out


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


def leave_exception(session: Session) -> None:
    """Let the CPU go on where SRR0 and SRR1 are live, until they are dead: MSR[RI] or MSR[EE] is set.

    The kernel sets RI once it has saved them, and clears it before it loads them to return (PEM 6.1.3).
    A CPU that naps is woken by an interrupt first. Raises `TargetTimeout` when it is not, and when it does
    not get there.
    """
    base = _HIGH if GRegisters(session.read_all())["msr"] & IP else 0
    where = "no exception could be returned from (MSR[RI] and MSR[EE] are 0)"
    until_saved(session, RI, "POW", where, wakes=[base + offset for offset in _WAKING])
