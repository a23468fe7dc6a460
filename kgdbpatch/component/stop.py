"""A guest that is stopped for one operation: what is written to it, and calls of the stub."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from kgdbpatch.component import layout
from kgdbpatch.component.kernel_calls import to_place
from kgdbpatch.component.ports import Cpu, Session
from kgdbpatch.component.protocol import Command, StubFailed
from kgdbpatch.patch.trap import Hook
from kgdbpatch.personality.base import Window
from kgdbpatch.vm.registers import GRegisters

__all__ = ["Stop"]

_TRIES = 16  # attempts to stop a CPU where interrupts are on
_HOOK_STEPS = 4096  # instructions: the hook's own, and six for each entry of its table that it reads
_INTERRUPTED = ("srr0", "csrr0", "mcsrr0")  # where exceptions of each kind keep the interrupted pc


def _found(session: Session, cpu: Cpu, anywhere: bool) -> bool:
    """Tell whether a CPU is where it is to be lent; it is the one that is meant then."""
    for number in range(session.cpus):
        session.select(number)
        msr = GRegisters(session.read_all())["msr"]
        if not cpu.napping(msr) and (anywhere or cpu.interruptible(msr)):
            return True
    return session.stays_stopped


class Stop:
    """A stopped guest, ready for calls of the stub by the CPU that ``session`` means."""

    def __init__(self, session: Session, arena: int, cpu: Cpu) -> None:
        self.session, self._arena, self._cpu = session, arena, cpu
        self._home = session.cpu

    @classmethod
    def begun(cls, session: Session, arena: int, cpu: Cpu, *, anywhere: bool) -> Stop:
        """Return a guest's stop, in which a CPU can be lent; ``anywhere`` as for `ComponentClient.stop`.

        A call of the stub that was left behind is brought to its end. Raises `TargetTimeout` when no CPU gets
        to such a place.
        """
        for number in range(session.cpus):
            session.select(number)
            if cpu.in_call(GRegisters(session.read_all()), arena):
                cpu.finish_call(session, arena)
        for _ in range(_TRIES):
            if _found(session, cpu, anywhere):
                break
            session.resume()
            session.interrupt()
        cpu.leave_exception(session)
        return cls(session, arena, cpu)

    def every_cpu(self) -> Iterator[int]:
        """Mean one CPU after the other, and yield its number; the one that was meant before comes last."""
        others = [number for number in range(self.session.cpus) if number != self._home]
        for number in (*others, self._home):
            self.session.select(number)
            yield number

    def to_place(self, place: Window, deadline: float) -> None:
        """Let the guest run until a thread is in ``place`` with interrupts on; its CPU is meant then.

        Raises `TargetTimeout` when none is within ``deadline`` seconds.
        """
        to_place(self.session, self._cpu, place, deadline)
        self._home = self.session.cpu

    def ready(self) -> None:
        """Let the CPU that is meant go on to where it can be lent."""
        self._cpu.leave_exception(self.session)

    def elsewhere(self, commands: Sequence[Command]) -> None:
        """Have the stub obey on all other CPUs: what each of them has for itself is changed on each."""
        for number in self.every_cpu():
            if number != self._home:
                self.ready()
                self.obey(commands)

    def write(self, physical: int, data: bytes) -> None:
        """Write bytes that no CPU executes or trusts yet, together with the next call at the latest."""
        self.session.write_physical(physical, data, later=True)

    def call(self, commands: Sequence[Command]) -> list[int]:
        """Have the stub obey ``commands``; return their results (see `Cpu.call`)."""
        return self._cpu.call(self.session, self._arena, commands)

    def check_cpu(self) -> None:
        """Raise `Refused` (rule ``mapping``) for CPUs, all alike, that the component's code is not for."""
        self.session.select(0)
        self._cpu.check(self.session)
        self.session.select(self._home)

    def registers(self) -> GRegisters:
        """Return the CPU's general registers as the guest left them."""
        return GRegisters(self.session.read_all())

    def registers_of_all(self) -> list[GRegisters]:
        """Return every CPU's general registers."""
        return [self.registers() for _ in self.every_cpu()]

    def program_counters(self, tails: Window | None) -> list[int]:
        """Return every CPU's registers that can hold where code goes on: srr0, its like, general ones.

        An exception's first instructions hold the interrupted pc in one of r0 to r31. Addresses in the
        vectors are given as they are in the window ``tails``, too.
        """
        kept = [name for name in _INTERRUPTED if name in self.session.layout.places]
        found = [value for registers in self.registers_of_all() for value in registers.as_dict().values()]
        found += [self.session.register(name) for _ in self.every_cpu() for name in kept]
        if tails is not None:
            found += [tails.start + pc for pc in found if pc < tails.end - tails.start]
        return found

    def _in_hook(self, hook: Hook) -> bool:
        registers = self.registers()
        return hook.inside(registers["pc"]) and self._cpu.translated(registers["msr"]) == hook.translated

    def trapped(self, hook: Hook) -> list[int]:
        """Return the sites whose traps the CPUs are about to look up."""
        return [self.session.register("srr0") for _ in self.every_cpu() if self._in_hook(hook)]

    def leave_hook(self, hook: Hook) -> None:
        """Let CPUs that are in the hook go on into the body or the kernel's handler, if they do soon."""
        for _ in self.every_cpu():
            steps = 0
            while steps < _HOOK_STEPS and self._in_hook(hook):
                self.session.step()
                steps += 1

    def obey(self, commands: Sequence[Command]) -> None:
        """Call the stub as often as ``commands`` need; a failure's index counts from the first of them."""
        for start in range(0, len(commands), layout.MAX_COMMANDS):
            try:
                self.call(commands[start : start + layout.MAX_COMMANDS])
            except StubFailed as error:
                error.index += start
                raise
