"""The component's machine code of the 6xx, and how a CPU gets out of an exception's first and last words."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from kgdbpatch.cpu.ppc6xx.msr import EE, POW, RI
from kgdbpatch.cpu.stub import Stub
from kgdbpatch.errors import TargetTimeout
from kgdbpatch.isa import encode
from kgdbpatch.vm.registers import GRegisters

if TYPE_CHECKING:
    from kgdbpatch.component.ports import Session

__all__ = ["CODE", "STUB", "leave_exception"]

CODE = Path(__file__).with_name("stub.bin").read_bytes()
STUB = Stub(CODE, encode.rfi(), space=0)  # real mode: MSR[IR] and MSR[DR] are 0

_STEPS, _STRIDE = 2048, 16  # instructions: of an exception's beginning or end, at most, and at a time


def leave_exception(session: Session) -> None:
    """Let the CPU go on where SRR0 and SRR1 are live, until they are dead: MSR[RI] or MSR[EE] is set.

    The kernel sets RI once it has saved them, and clears it before it loads them to return (PEM 6.1.3).
    Raises `TargetTimeout` when the CPU naps or does not get there.
    """
    for _ in range(_STEPS // _STRIDE):
        registers = GRegisters(session.read_all())
        if registers["msr"] & (EE | RI | POW):
            break
        session.step(_STRIDE)
    else:
        registers = GRegisters(session.read_all())
    where = f"pc 0x{registers['pc']:08x}, msr 0x{registers['msr']:08x}"
    if registers["msr"] & POW:
        raise TargetTimeout(f"the CPU naps (MSR[POW]) and runs nothing before its next interrupt: {where}")
    if not registers["msr"] & (EE | RI):
        raise TargetTimeout(
            f"the CPU is where no exception could be returned from (MSR[RI] and MSR[EE] are 0) and does "
            f"not leave it within {_STEPS} instructions: {where}"
        )
