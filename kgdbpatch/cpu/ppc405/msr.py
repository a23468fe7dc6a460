"""The machine state register of the 405, as far as the client asks for it (PPC405 manual, "MSR")."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from kgdbpatch.cpu.msr import EE, ME, NAP, PR, until_saved
from kgdbpatch.isa.msr import KernelSpace
from kgdbpatch.vm.registers import GRegisters

if TYPE_CHECKING:
    from kgdbpatch.component.ports import Session

__all__ = ["KERNEL_SPACE", "kernel_status", "leave_exception", "translated"]

CE, DE, IR, DR = 0x2_0000, 0x200, 0x20, 0x10
KERNEL_SPACE = KernelSpace((IR, DR), on=IR | DR)
_KNOWN = 0x020E_FF32  # AP, APE, WE, CE, EE ... DE, FE1, IR, DR, and RI, which kernels may set
_WAKING = (0x500, 0x1000, 0x1010)  # external interrupts, the programmable timer, the fixed one


def translated(msr: int) -> bool:
    """Tell whether the CPU fetches instructions through its MMU."""
    return bool(msr & IR)


def kernel_status(words: npt.NDArray[np.uint32]) -> npt.NDArray[np.bool_]:
    """Tell which words can be an MSR saved in the kernel where it could be interrupted.

    Translation is on there, and some interrupt was let in; else it is interrupted by its own faults alone.
    """
    wanted = (words & np.uint32(IR | DR | PR)) == IR | DR
    wanted &= (words & np.uint32(EE | CE | ME)) != 0
    return np.asarray(wanted & ((words & np.uint32(~_KNOWN & 0xFFFF_FFFF)) == 0))


def leave_exception(session: Session) -> None:
    """Let the CPU go on where SRR2 and SRR3 may be live, until they are dead.

    That is so where MSR[CE] or MSR[EE] is set, and where what SRR3 holds allows no critical interrupt: it is
    of none then. The stub goes home by these two; SRR0 and SRR1 it leaves alone. Raises `TargetTimeout` when
    the CPU naps or does not get there.
    """
    naps = GRegisters(session.read_all())["msr"] & NAP
    base = session.register("evpr") & 0xFFFF_0000 if naps else 0
    until_saved(
        session,
        CE,
        "WE",
        "critical interrupts are off (MSR[CE] and MSR[EE] are 0)",
        lambda: not session.register("srr3") & (CE | DE),
        [base + offset for offset in _WAKING] if naps else [],
    )
