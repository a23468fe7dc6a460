"""Count guest instructions exactly: step through them, and ask QEMU how many it has executed."""

from __future__ import annotations

from kgdbpatch.errors import CommandFailed, Misuse, TargetTimeout
from kgdbpatch.vm.gdb import Session
from kgdbpatch.vm.qemu import Qemu

__all__ = ["executed", "step_to"]

_BATCH = 64  # steps on their way to GDB at once


def executed(qemu: Qemu) -> int:
    """Return the guest instructions executed since power-on; `Misuse` without ``icount``."""
    answer = qemu.qmp("query-replay")
    count = answer.get("icount") if isinstance(answer, dict) else None
    if not count:
        raise Misuse(f"guest '{qemu.name}' does not count instructions; boot it with icount")
    return int(count)


def step_to(qemu: Qemu, session: Session, address: int, most: int) -> list[int]:
    """Step a guest booted with ``icount`` until its pc is ``address``; return the pcs executed.

    The first is where it was stopped; interrupts wait. Up to 63 instructions more are executed. Raises
    `TargetTimeout` after ``most`` of them, `CommandFailed` when QEMU has counted otherwise.
    """
    pc = session.register("pc")
    before = executed(qemu)
    order = f"p{session.layout.number('pc'):x}"
    seen = [pc]
    while len(seen) <= most:
        answers = session.packets(*("vCont;s:p1.1", order) * _BATCH)
        seen += [int(answer, 16) for answer in answers[1::2]]
        fresh = len(seen) - _BATCH
        if address in seen[fresh:]:
            counted, steps = executed(qemu) - before, len(seen) - 1
            if counted != steps:
                raise CommandFailed(f"QEMU counted {counted} instructions in {steps} steps")
            return seen[: seen.index(address, fresh)]
    raise TargetTimeout(f"the guest did not come to 0x{address:08x} within {most} instructions")
