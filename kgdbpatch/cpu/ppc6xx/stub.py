"""Call the stub: lend it the stopped CPU, obey a list of commands, give the CPU back."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from kgdbpatch.component import layout
from kgdbpatch.component.protocol import Command, StubFailed
from kgdbpatch.cpu.ppc6xx.msr import DR, EE, IR, ME, POW, RI
from kgdbpatch.errors import TargetTimeout
from kgdbpatch.isa import encode
from kgdbpatch.vm.registers import GRegisters

if TYPE_CHECKING:
    from kgdbpatch.component.ports import Session

__all__ = [
    "CODE",
    "call",
    "finish",
    "in_stub",
    "leave_exception",
]

CODE = Path(__file__).with_name("stub.bin").read_bytes()
_RFI = (0x4C00_0064).to_bytes(4, "big")
_DONE = CODE.index(encode.nop().to_bytes(4, "big"))
_WAY_HOME = range(_DONE, CODE.index(_RFI, _DONE) + 4)
_DEADLINE = 10.0  # seconds; a call of some thousand commands takes milliseconds

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


def in_stub(registers: GRegisters, arena: int) -> bool:
    """Tell whether the CPU was left inside a call (the debugger was killed there)."""
    start = arena + layout.STUB_OFFSET
    return not registers["msr"] & (IR | DR) and start <= registers["pc"] < start + len(CODE)


def finish(session: Session, arena: int) -> None:
    """Let an interrupted call run to its end and give the CPU back to the guest.

    On its way home, the stub only puts registers back from the call block, as is done here.
    """
    start = arena + layout.STUB_OFFSET
    if GRegisters(session.read_all())["pc"] - start not in _WAY_HOME:
        session.run_to_physical(start + _DONE, _DEADLINE)
    block = np.frombuffer(
        session.read_physical(arena + layout.CALL_OFFSET, layout.CALL_BLOCK.itemsize), layout.CALL_BLOCK
    )[0]
    registers = GRegisters(session.read_all())
    for name in ("pc", "msr", "cr", "ctr", "lr", "r0"):
        registers[name] = int(block[name])
    for number, value in enumerate(block["r3_r12"], start=3):
        registers[f"r{number}"] = int(value)
    session.write_all(registers.raw)


def call(session: Session, arena: int, commands: Sequence[Command]) -> list[int]:
    """Have the stub in the arena at physical ``arena`` obey ``commands``; return their results.

    The guest must be stopped. All registers are as before afterwards. Raises `StubFailed` for the
    first command that fails; those after it were not run.
    """
    if not 0 < len(commands) <= layout.MAX_COMMANDS:
        raise ValueError(f"{len(commands)} commands do not fit a call")
    saved = session.read_all()
    registers = GRegisters(saved)
    block = np.zeros(1, layout.CALL_BLOCK)
    block["commands"] = arena + layout.COMMANDS_OFFSET
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

    registers["pc"] = arena + layout.STUB_OFFSET
    registers["r3"] = arena + layout.CALL_OFFSET
    registers["msr"] = registers["msr"] & ME
    session.write_all(registers.raw, later=True)  # from here to `done` the call completes even if we die
    try:
        session.run_to_physical(arena + layout.STUB_OFFSET + _DONE, _DEADLINE)
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
