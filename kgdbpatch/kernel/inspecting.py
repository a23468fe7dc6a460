"""Stops in which the kernel's memory is seen as the kernel itself sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kgdbpatch.component.ports import Cpu

if TYPE_CHECKING:
    from kgdbpatch.vm.gdb import Session

__all__ = ["leave_process"]

_MOMENTS = 200  # at which a CPU may be found to run a process


def leave_process(cpu: Cpu, session: Session) -> None:
    """Let a guest that is to go on anyway run till its CPU is in the kernel: a process sees nothing of that.

    A guest that was paused stays where it is, and so does one that does not come there.
    """
    for _ in range(_MOMENTS):
        if session.stays_stopped or not cpu.in_process(session.registers()["msr"]):
            return
        session.resume()
        session.interrupt()
