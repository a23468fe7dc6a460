"""The 6xx family, for the kernel component's client (component/ports.py)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kgdbpatch.component import layout
from kgdbpatch.cpu.ppc6xx import mapping as mmu
from kgdbpatch.cpu.ppc6xx import msr, stub, translate
from kgdbpatch.errors import Refused

if TYPE_CHECKING:
    from kgdbpatch.component.ports import Session
    from kgdbpatch.vm.registers import GRegisters

__all__ = ["Ppc6xx"]

_NEEDED = ("ibat0u", "dbat0u", "sdr1")


class Ppc6xx:
    """601-less 6xx, 7xx and 74xx."""

    code = stub.CODE
    state = layout.STATE

    call = staticmethod(stub.call)
    in_call = staticmethod(stub.in_stub)
    finish_call = staticmethod(stub.finish)
    interruptible = staticmethod(stub.interruptible)
    napping = staticmethod(stub.napping)
    leave_exception = staticmethod(stub.leave_exception)

    kernel_status = staticmethod(msr.kernel_status)

    check_blocks = staticmethod(mmu.check_blocks)
    check_unmapped = staticmethod(mmu.check_unmapped)
    free_bats = staticmethod(mmu.free_bats)
    mapping = staticmethod(mmu.mapping)
    tails_mapping = staticmethod(mmu.tails_mapping)
    translate = staticmethod(translate.translate)

    def __repr__(self) -> str:
        return "Ppc6xx()"

    def check(self, session: Session) -> None:
        """Raise `Refused` (rule ``mapping``) for a CPU that the stub's code is not for.

        It needs real mode, BATs and a hashed page table. CPUs that have these have RI in their MSR, and
        cache lines of 32 bytes or more; those of Book E, the 4xx and the 8xx have none of them.
        """
        missing = [name for name in _NEEDED if name not in session.layout.places]
        if missing:
            raise Refused(
                "mapping", f"this CPU has no {' and no '.join(missing)}: it is not of the 6xx family"
            )

    def in_process(self, registers: GRegisters) -> bool:
        """Tell whether the CPU runs a process: MSR[PR]."""
        return bool(registers["msr"] & msr.PR)

    def translated(self, registers: GRegisters) -> bool:
        """Tell whether the CPU fetches instructions through its MMU: MSR[IR]."""
        return bool(registers["msr"] & msr.IR)
