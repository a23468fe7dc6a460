"""Stops in which the kernel's memory is seen as the kernel itself sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kgdbpatch.component.ports import Cpu

if TYPE_CHECKING:
    from kgdbpatch.vm.gdb import Session

__all__ = ["leave_process"]

_MOMENTS = 200  # at which a CPU may be found elsewhere
_STRIDE = 16  # instructions


def leave_process(cpu: Cpu, session: Session) -> None:
    """Let a guest that is to go on anyway run till its CPU sees the kernel's memory as the kernel does.

    A process sees nothing of that, nor does an exception whose first instructions run untranslated. A guest
    that was paused stays where it is, and so does one that does not come there.
    """
    space = cpu.kernel_space
    for _ in range(_MOMENTS):
        msr = session.registers()["msr"]
        if session.stays_stopped:
            return
        if cpu.in_process(msr):
            session.resume()
            session.interrupt()
        elif msr & (space.bits[0] | space.bits[1]) != space.on:
            session.step(_STRIDE)
        else:
            return
