"""The machine state register of the e500, as far as the client asks for it (E500CORERM 2.5.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from kgdbpatch.errors import TargetTimeout
from kgdbpatch.isa.msr import KernelSpace
from kgdbpatch.vm.registers import GRegisters

if TYPE_CHECKING:
    from kgdbpatch.component.ports import Session

__all__ = [
    "CE",
    "DS",
    "EE",
    "IS",
    "KERNEL_SPACE",
    "ME",
    "PR",
    "WE",
    "in_process",
    "interruptible",
    "kernel_status",
    "leave_exception",
    "napping",
    "translated",
]

WE, CE, EE, PR, ME, IS, DS = 0x4_0000, 0x2_0000, 0x8000, 0x4000, 0x1000, 0x20, 0x10
KERNEL_SPACE = KernelSpace((IS, DS), on=0)  # the other address space is the component's alone
_KNOWN = 0x0606_FF36  # UCLE, SPE, WE, CE, EE ... FE1, IS, DS, PMM, and RI, which kernels may set; not more
_STEPS, _STRIDE = 2048, 16  # instructions: of an exception's beginning or end, at most, and at a time


def interruptible(msr: int) -> bool:
    """Tell whether interrupts are on: SRR0 and SRR1 are dead then."""
    return bool(msr & EE)


def napping(msr: int) -> bool:
    """Tell whether the CPU runs nothing before its next interrupt."""
    return bool(msr & WE)


def in_process(msr: int) -> bool:
    """Tell whether the CPU runs a process."""
    return bool(msr & PR)


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


def leave_exception(session: Session) -> None:
    """Let the CPU go on where CSRR0 and CSRR1 may be live, until they are dead: MSR[CE] or MSR[EE] is set.

    The stub goes home by these two. What is in SRR0 and SRR1 it leaves alone. Raises `TargetTimeout` when
    the CPU naps or does not get there.
    """
    for _ in range(_STEPS // _STRIDE):
        registers = GRegisters(session.read_all())
        if registers["msr"] & (EE | CE | WE):
            break
        session.step(_STRIDE)
    else:
        registers = GRegisters(session.read_all())
    where = f"pc 0x{registers['pc']:08x}, msr 0x{registers['msr']:08x}"
    if registers["msr"] & WE:
        raise TargetTimeout(f"the CPU naps (MSR[WE]) and runs nothing before its next interrupt: {where}")
    if not registers["msr"] & (EE | CE):
        raise TargetTimeout(
            f"the CPU is where critical interrupts are off (MSR[CE] and MSR[EE] are 0) and does not leave it "
            f"within {_STEPS} instructions: {where}"
        )
