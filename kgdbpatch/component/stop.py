"""A guest that is stopped for one operation: what is written to it, and calls of the stub."""

from __future__ import annotations

from collections.abc import Sequence

from kgdbpatch.component import layout
from kgdbpatch.component.ports import Cpu, Session
from kgdbpatch.component.protocol import Command, StubFailed
from kgdbpatch.patch.trap import Hook
from kgdbpatch.personality.base import Window
from kgdbpatch.vm.registers import GRegisters

__all__ = ["Stop"]

_INTERRUPTED = ("srr0", "csrr0", "mcsrr0")  # where exceptions of each kind keep the interrupted pc


class Stop:
    """A stopped guest, ready for calls of the stub."""

    def __init__(self, session: Session, arena: int, cpu: Cpu) -> None:
        self._session, self._arena, self._cpu = session, arena, cpu

    def write(self, physical: int, data: bytes) -> None:
        """Write bytes that no CPU executes or trusts yet, together with the next call at the latest."""
        self._session.write_physical(physical, data, later=True)

    def call(self, commands: Sequence[Command]) -> list[int]:
        """Have the stub obey ``commands``; return their results (see `Cpu.call`)."""
        return self._cpu.call(self._session, self._arena, commands)

    def check_cpu(self) -> None:
        """Raise `Refused` (rule ``mapping``) for a CPU that the component's code is not for."""
        self._cpu.check(self._session)

    def check_hook(self, hook: Hook) -> None:
        """Raise `Refused` (rule ``trap``) where the CPU's program exception is not what ``hook`` is for."""
        self._cpu.check_hook(self._session, hook)

    def registers(self) -> GRegisters:
        """Return the general registers as the guest left them."""
        return GRegisters(self._session.read_all())

    def program_counters(self, tails: Window | None) -> list[int]:
        """Return every register of the CPU that can hold where code goes on: srr0, its like, general ones.

        An exception's first instructions hold the interrupted pc in one of r0 to r31. Addresses in the
        vectors are given as they are in the window ``tails``, too.
        """
        kept = (name for name in _INTERRUPTED if name in self._session.layout.places)
        found = [*self.registers().as_dict().values(), *map(self._session.register, kept)]
        if tails is not None:
            found += [tails.start + pc for pc in found if pc < tails.end - tails.start]
        return found

    def trapped(self, hook: Hook) -> int | None:
        """Return the site whose trap the CPU is about to look up, or None."""
        registers = self.registers()
        same_mode = self._cpu.translated(registers["msr"]) == hook.translated
        return self._session.register("srr0") if same_mode and hook.inside(registers["pc"]) else None

    def obey(self, commands: Sequence[Command]) -> None:
        """Call the stub as often as ``commands`` need; a failure's index counts from the first of them."""
        for start in range(0, len(commands), layout.MAX_COMMANDS):
            try:
                self.call(commands[start : start + layout.MAX_COMMANDS])
            except StubFailed as error:
                error.index += start
                raise
