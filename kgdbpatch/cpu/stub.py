"""Call a family's stub: lend it the stopped CPU, obey a list of commands, give the CPU back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from kgdbpatch.component import layout
from kgdbpatch.component.protocol import Command, StubFailed
from kgdbpatch.cpu.msr import ME
from kgdbpatch.isa import encode
from kgdbpatch.vm.registers import GRegisters

if TYPE_CHECKING:
    from kgdbpatch.component.ports import Session

__all__ = ["Stub"]

_SPACES = 0x30  # MSR: translation on 6xx (IR, DR), the address space on Book E (IS, DS)
_DEADLINE = 10.0  # seconds; a call of some thousand commands takes milliseconds


class Stub(NamedTuple):
    """A family's machine code (obey.S), and how the CPU is lent to it.

    It ends with the word ``home``, and runs with the bits ``space`` of `_SPACES` in MSR.
    """

    code: bytes
    home: int
    space: int

    @property
    def done(self) -> int:
        """Where in the code the debugger has its breakpoint."""
        return self.code.index(encode.nop().to_bytes(4, "big"))

    def _on_its_way_home(self, offset: int) -> bool:
        end = self.code.index(self.home.to_bytes(4, "big"), self.done) + 4
        return self.done <= offset < end

    def inside(self, registers: GRegisters, arena: int) -> bool:
        """Tell whether the CPU was left inside a call (the debugger was killed there)."""
        start = arena + layout.STUB_OFFSET
        return registers["msr"] & _SPACES == self.space and start <= registers["pc"] < start + len(self.code)

    def finish(self, session: Session, arena: int) -> None:
        """Let an interrupted call run to its end and give the CPU back to the guest.

        On its way home, the stub only puts registers back from the call block, as is done here.
        """
        start = arena + layout.STUB_OFFSET
        if not self._on_its_way_home(GRegisters(session.read_all())["pc"] - start):
            session.run_to_physical(start + self.done, _DEADLINE)
        block = np.frombuffer(
            session.read_physical(arena + layout.CALL_OFFSET, layout.CALL_BLOCK.itemsize), layout.CALL_BLOCK
        )[0]
        registers = GRegisters(session.read_all())
        for name in ("pc", "msr", "cr", "ctr", "lr", "r0"):
            registers[name] = int(block[name])
        for number, value in enumerate(block["r3_r12"], start=3):
            registers[f"r{number}"] = int(value)
        session.write_all(registers.raw)

    def call(self, session: Session, arena: int, commands: Sequence[Command], seen_at: int = 0) -> list[int]:
        """Have the stub in the arena at physical ``arena`` obey ``commands``; return their results.

        The guest must be stopped. All registers are as before afterwards. ``seen_at`` is added to the
        addresses at which the CPU finds the arena's memory. Raises `StubFailed` for the
        first command that fails; those after it were not run.
        """
        if not 0 < len(commands) <= layout.MAX_COMMANDS:
            raise ValueError(f"{len(commands)} commands do not fit a call")
        saved = session.read_all()
        registers = GRegisters(saved)
        block = np.zeros(1, layout.CALL_BLOCK)
        block["commands"] = seen_at + arena + layout.COMMANDS_OFFSET
        block["count"] = len(commands)
        for name in ("pc", "msr", "cr", "ctr", "lr", "r0"):
            block[name] = registers[name]
        block["r3_r12"] = [registers[f"r{number}"] for number in range(3, 13)]
        orders = np.zeros(len(commands), layout.COMMAND)
        for order, command in zip(orders, commands, strict=True):
            order["op"], order["a"], order["b"], order["c"] = command.op, command.a, command.b, command.c
        padding = bytes(layout.COMMANDS_OFFSET - layout.CALL_OFFSET - block.nbytes)
        given = block.tobytes() + padding + orders.tobytes()
        session.write_physical(arena + layout.CALL_OFFSET, given, later=True)

        registers["pc"] = seen_at + arena + layout.STUB_OFFSET
        registers["r3"] = seen_at + arena + layout.CALL_OFFSET
        registers["msr"] = registers["msr"] & ME | self.space
        session.write_all(registers.raw, later=True)  # from here to `done` the call completes even if we die
        try:
            session.run_to_physical(seen_at + arena + layout.STUB_OFFSET + self.done, _DEADLINE)
            answer = session.read_physical(
                arena + layout.CALL_OFFSET, layout.COMMANDS_OFFSET - layout.CALL_OFFSET + orders.nbytes
            )
        finally:
            session.write_all(saved, later=True)
        results = np.frombuffer(
            answer, layout.COMMAND, len(commands), layout.COMMANDS_OFFSET - layout.CALL_OFFSET
        )
        status = int(np.frombuffer(answer, ">u4", 1)[0])
        if status:
            index = status - 1
            found = results[index]
            raise StubFailed(index, commands[index].op, int(found["result"]), int(found["done"]))
        return [int(result) for result in results["result"]]
