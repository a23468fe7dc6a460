"""Pause a guest for good, and let it go on: what the user asks for, not what a debugger does in passing."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from kgdbpatch.vm.peer import wait_for_turn

if TYPE_CHECKING:
    from kgdbpatch.vm.gdb import Debugger
    from kgdbpatch.vm.qemu import Qemu

__all__ = ["let_run"]


def let_run(qemu: Qemu, debugger: Callable[[], Debugger], wait: float, *, wanted: bool) -> bool:
    """Let a guest run from now on, or have it paused, as ``wanted``; return whether it ran before.

    Where QEMU's monitor is not known, a debugger leaves the guest so. Raises `TargetBusy` when another client
    or somebody's debugger holds it for more than ``wait`` seconds.
    """
    with qemu.exclusive(wait):
        wait_for_turn(qemu.gdb_socket, f"guest '{qemu.name}' is held by another debugger", wait)
        ran = qemu.runs()
        if ran == wanted and (ran or not qemu.left_by_debugger()):
            return ran
        if qemu.observable and not qemu.left_by_debugger():
            qemu.qmp("cont" if wanted else "stop")
        else:  # breakpoints of a debugger that was killed go with the connection
            with debugger().stopped() as session:
                session.stays_stopped = not wanted
        qemu.note_paused(not wanted)
    return ran
