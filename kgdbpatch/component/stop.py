"""A guest that is stopped for one operation: what is written to it, and calls of the stub."""

from __future__ import annotations

from collections.abc import Sequence

from kgdbpatch.component import layout, stub
from kgdbpatch.component.stub import Command, StubFailed
from kgdbpatch.errors import Refused
from kgdbpatch.guests.profile import Window
from kgdbpatch.patch.trap import HOOK_SIZE, Hook
from kgdbpatch.vm.gdb import GRegisters, Session

__all__ = ["Stop"]

_NEEDED = ("ibat0u", "dbat0u", "sdr1")
_IR = 0x20  # MSR: instructions are translated


class Stop:
    """A stopped guest, ready for calls of the stub."""

    def __init__(self, session: Session, arena: int) -> None:
        self._session, self._arena = session, arena

    def write(self, physical: int, data: bytes) -> None:
        """Write bytes that no CPU executes or trusts yet, together with the next call at the latest."""
        self._session.write_physical(physical, data, later=True)

    def call(self, commands: Sequence[Command]) -> list[int]:
        """Have the stub obey ``commands``; return their results (see `stub.call`)."""
        return stub.call(self._session, self._arena, commands)

    def check_cpu(self) -> None:
        """Raise `Refused` (rule ``mapping``) for a CPU that the stub's code is not for.

        It needs real mode, BATs and a hashed page table. CPUs that have these have RI in their MSR, and
        cache lines of 32 bytes or more; those of Book E, the 4xx and the 8xx have none of them.
        """
        missing = [name for name in _NEEDED if name not in self._session.layout.places]
        if missing:
            raise Refused(
                "mapping", f"this CPU has no {' and no '.join(missing)}: it is not of the 6xx family"
            )

    def registers(self) -> GRegisters:
        """Return the general registers as the guest left them."""
        return GRegisters(self._session.read_all())

    def program_counters(self, tails: Window | None) -> list[int]:
        """Return every register of the CPU that can hold where code goes on: srr0 and the general ones.

        An exception's first instructions hold the interrupted pc in one of r0 to r31. Addresses in the
        vectors are given as they are in the window ``tails``, too.
        """
        found = [*self.registers().as_dict().values(), self._session.register("srr0")]
        if tails is not None:
            found += [tails.start + pc for pc in found if pc < tails.end - tails.start]
        return found

    def trapped(self, hook: Hook) -> int | None:
        """Return the site whose trap the CPU is about to look up, or None."""
        registers = self.registers()
        start = hook.at - hook.shift
        inside = registers["pc"] == hook.vector - hook.shift or start <= registers["pc"] < start + HOOK_SIZE
        return self._session.register("srr0") if inside and not registers["msr"] & _IR else None

    def obey(self, commands: Sequence[Command]) -> None:
        """Call the stub as often as ``commands`` need; a failure's index counts from the first of them."""
        for start in range(0, len(commands), layout.MAX_COMMANDS):
            try:
                self.call(commands[start : start + layout.MAX_COMMANDS])
            except StubFailed as error:
                error.index += start
                raise
