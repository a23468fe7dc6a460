"""The bits of the machine state register that all families have in the same places, and what they say."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from kgdbpatch.errors import TargetTimeout
from kgdbpatch.vm.registers import GRegisters

if TYPE_CHECKING:
    from kgdbpatch.component.ports import Session

__all__ = ["EE", "ME", "NAP", "PR", "Status", "until_saved"]

NAP, EE, PR, ME = 0x4_0000, 0x8000, 0x4000, 0x1000  # the first is POW on 6xx, WE on Book E
_STEPS, _STRIDE = 2048, 16  # instructions: of an exception's beginning or end, at most, and at a time
_NAP = 5.0  # seconds until something is due in a kernel, however idle it is


class Status:
    """What a status register says on every family."""

    @staticmethod
    def interruptible(msr: int) -> bool:
        """Tell whether interrupts are on: SRR0 and SRR1 are dead then."""
        return bool(msr & EE)

    @staticmethod
    def napping(msr: int) -> bool:
        """Tell whether the CPU runs nothing before its next interrupt."""
        return bool(msr & NAP)

    @staticmethod
    def in_process(msr: int) -> bool:
        """Tell whether the CPU runs a process."""
        return bool(msr & PR)


def until_saved(
    session: Session,
    bit: int,
    nap: str,
    where: str,
    saved: Callable[[], bool] = lambda: False,
    wakes: Sequence[int] = (),
) -> None:
    """Let the CPU go on until MSR has ``bit`` or EE: what an exception left in registers is dead then.

    ``saved`` tells whether it is dead for another reason. ``nap`` is what the family calls the bit of a
    napping CPU: the guest runs until it has been woken, at one of ``wakes``, unless it was paused. ``where``
    is what to say of a CPU that does not get there. Raises `TargetTimeout` for it, and for one that naps on.
    """
    naps = GRegisters(session.read_all())["msr"] & (NAP | EE) == NAP | EE
    if naps and wakes and not session.stays_stopped:
        with suppress(TargetTimeout):
            session.run_to_any(wakes, _NAP)
    for _ in range(_STEPS // _STRIDE):
        registers = GRegisters(session.read_all())
        if registers["msr"] & (EE | bit | NAP) or saved():
            break
        session.step(_STRIDE)
    else:
        registers = GRegisters(session.read_all())
    place = f"pc 0x{registers['pc']:08x}, msr 0x{registers['msr']:08x}"
    if registers["msr"] & NAP:
        raise TargetTimeout(f"the CPU naps (MSR[{nap}]) and runs nothing before its next interrupt: {place}")
    if not registers["msr"] & (EE | bit) and not saved():
        raise TargetTimeout(
            f"the CPU is where {where} and does not leave it within {_STEPS} instructions: {place}"
        )
