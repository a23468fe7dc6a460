"""Find the CPU family of a guest: by what was noted of its CPU, or by asking it in a stop, once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from kgdbpatch import cpu
from kgdbpatch.errors import Refused
from kgdbpatch.vm.registers import Layout

if TYPE_CHECKING:
    from kgdbpatch.component.ports import Cpu
    from kgdbpatch.vm.gdb import Debugger
    from kgdbpatch.vm.qemu import Qemu

__all__ = ["found", "noted"]


def found(qemu: Qemu, debugger: Callable[[], Debugger], wait: float) -> Cpu:
    """Return the family of the guest's CPU; raise `Refused` (rule ``cpu``) where none is known for it.

    The guest is stopped only the first time that anybody asks.
    """
    layout = Layout.load(qemu.directory)
    if layout is not None:
        return cpu.find(layout)
    asked = debugger()
    try:
        with qemu.exclusive(wait), asked.stopped() as session:
            return cpu.find(session.layout)
    except BaseException:
        asked.close()  # nobody else would: there is no kernel that was attached to
        raise


def noted(directory: Path) -> Cpu:
    """Return the family by what was noted in a guest's directory; where that says nothing, the first one."""
    layout = Layout.load(directory)
    try:
        return cpu.of_model("") if layout is None else cpu.find(layout)
    except Refused:
        return cpu.of_model("")
