"""The machine state register of the e500, as far as the client asks for it (E500CORERM 2.5.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from kgdbpatch.cpu.msr import EE, ME, NAP, PR, until_saved
from kgdbpatch.isa.msr import KernelSpace
from kgdbpatch.vm.registers import GRegisters

if TYPE_CHECKING:
    from kgdbpatch.component.ports import Session

__all__ = ["CE", "DS", "IS", "KERNEL_SPACE", "kernel_status", "leave_exception", "translated"]

CE, DE, IS, DS = 0x2_0000, 0x200, 0x20, 0x10
KERNEL_SPACE = KernelSpace((IS, DS), on=0)  # the other address space is the component's alone
_KNOWN = 0x0606_FF36  # UCLE, SPE, WE, CE, EE ... FE1, IS, DS, PMM, and RI, which kernels may set; not more


def translated(msr: int) -> bool:
    """Tell whether the CPU fetches from the address space that kernels use (there is no real mode)."""
    return not msr & IS


def kernel_status(words: npt.NDArray[np.uint32]) -> npt.NDArray[np.bool_]:
    """Tell which words can be an MSR saved in the kernel where it could be interrupted.

    There is no bit that all of them have. Some interrupt was let in (EE, CE, ME): a kernel that runs with all
    of them off is interrupted by its own faults alone, and no patch's body makes any.
    """
    wanted = (words & np.uint32(EE | CE | ME)) != 0
    wanted &= (words & np.uint32(PR | IS | DS)) == 0
    return np.asarray(wanted & ((words & np.uint32(~_KNOWN & 0xFFFF_FFFF)) == 0))


def _critical(session: Session) -> bool:
    """Tell whether CSRR1 can be what a critical interrupt has left there."""
    return bool(session.register("csrr1") & (CE | DE))


def _waking(session: Session) -> list[int]:
    """Return where interrupts enter that wake a CPU: external, the decrementer's, the fixed-interval timer's.

    Nothing for one that does not nap, and for several CPUs, of which another one might come by there.
    """
    if session.cpus > 1 or not GRegisters(session.read_all())["msr"] & NAP:
        return []
    base = session.register("ivpr") & 0xFFFF_0000
    return [base | session.register(f"ivor{number}") & 0xFFF0 for number in (4, 10, 11)]


def leave_exception(session: Session) -> None:
    """Let the CPU go on where CSRR0 and CSRR1 may be live, until they are dead.

    That is so where MSR[CE] or MSR[EE] is set, and where what CSRR1 holds allows no critical interrupt: it is
    of none then, as in a kernel that never lets them in. The stub goes home by these two. What is in SRR0
    and SRR1 it leaves alone. Raises `TargetTimeout` when the CPU naps or does not get there.
    """
    where = "critical interrupts are off (MSR[CE] and MSR[EE] are 0)"
    until_saved(session, CE, "WE", where, lambda: not _critical(session), _waking(session))
