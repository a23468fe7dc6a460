"""Have a thread of the kernel call one of its functions, at a place where the kernel itself might do so.

A call is written down in the component's memory and completed even when every debugger dies; what a
function returned then is there for the next client.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from kgdbpatch.component import layout
from kgdbpatch.component.arena import field_offset
from kgdbpatch.component.layout import CallStatus, Op
from kgdbpatch.component.ports import Cpu, Debugger, OrderedCall, Session
from kgdbpatch.component.protocol import Command
from kgdbpatch.errors import Refused, TargetBusy, TargetTimeout
from kgdbpatch.personality.base import Window
from kgdbpatch.vm.ram import Machine, Readable
from kgdbpatch.vm.registers import GRegisters

__all__ = ["GATE_SIZE", "Gate", "Kept", "KernelCalls", "kept", "pending", "to_place", "wait_for"]

GATE_SIZE = 64  # bytes, at least what any family needs
_STEPS = 4096  # instructions from a system call's entry to where interrupts are on, at most
_SOON, _LATE = 0.0005, 0.01  # seconds between two looks at whether a function has returned
_GIVES_BACK = 0x100  # in a call's number: what was kept under it is kept no longer
_STATUS = layout.KERNEL_CALL_OFFSET + field_offset("status", layout.KERNEL_CALL)


class Gate(NamedTuple):
    """A place for the few words that a called function returns to: unused (0), the kernel's or ours."""

    virtual: int
    physical: int


class Kept(NamedTuple):
    """A range of addresses that the kernel keeps for us, by the ``handle`` that it is given back with."""

    number: int
    handle: int
    window: Window


def kept(ram: Readable, arena: int) -> list[Kept]:
    """Return what the kernel keeps for the arena at physical ``arena``."""
    raw = ram.read(arena + layout.KEPT_OFFSET, layout.KEPT_ENTRIES * layout.KEPT.itemsize)
    rows = np.frombuffer(raw, layout.KEPT).tolist()
    return [
        Kept(number, handle, Window(start, end))
        for number, (handle, start, end, _) in enumerate(rows, start=1)
        if handle
    ]


def pending(ram: Readable, arena: int) -> Window | None:
    """Return the virtual addresses of the gate while a call is under way, else None."""
    block = _block(ram, arena)
    start = int(block["gate"])
    return None if block["status"] == CallStatus.NONE else Window(start, start + GATE_SIZE)


def _block(ram: Readable, arena: int) -> np.void:
    raw = ram.read(arena + layout.KERNEL_CALL_OFFSET, layout.KERNEL_CALL.itemsize)
    block: np.void = np.frombuffer(raw, layout.KERNEL_CALL)[0]
    return block


def wait_for(status: Callable[[], int], function: int, deadline: float) -> None:
    """Wait until a kernel's ``function`` has returned, by what ``status`` is; or `TargetTimeout`."""
    end, pause = time.monotonic() + deadline, _SOON
    while status() != CallStatus.RETURNED:
        if time.monotonic() > end:
            raise TargetTimeout(
                f"the kernel's function at 0x{function:08x} has not returned within {deadline:g} s; it "
                "goes on, and its result is taken by whoever calls next"
            )
        time.sleep(pause)  # nobody tells us: a word in the guest's memory is what we wait for
        pause = min(2 * pause, _LATE)


def to_place(session: Session, cpu: Cpu, place: Window, deadline: float) -> None:
    """Let the guest run until a thread is in ``place`` with interrupts on; or `TargetTimeout`."""
    try:
        session.run_to(place.start, deadline)
    except TargetTimeout as error:
        raise TargetTimeout(
            f"no process made a system call within {deadline:g} s, and the kernel may be called nowhere "
            f"else: let a process run in the guest, then try again ({error})"
        ) from error
    for _ in range(_STEPS):
        registers = GRegisters(session.read_all())
        if cpu.interruptible(registers["msr"]) and place.start <= registers["pc"] < place.end:
            return
        session.step()
    raise TargetTimeout(f"a system call did not let interrupts in within {_STEPS} instructions")


class KernelCalls:
    """Calls of the functions of one guest's kernel; the component's memory is at physical ``arena``.

    ``to_physical`` translates addresses of the kernel's text.
    """

    def __init__(
        self,
        guest: Machine,
        debugger: Callable[[], Debugger],
        cpu: Cpu,
        arena: int,
        to_physical: Callable[[int], int | None],
    ) -> None:
        self._guest, self._debugger, self._cpu, self._arena = guest, debugger, cpu, arena
        self._to_physical = to_physical
        self.low = 0  # what the last function called had in r4: the lower half of 64 bits

    def prepare(self) -> None:
        """Write the component's code where it is not there yet."""
        code = ((layout.STUB_OFFSET, self._cpu.code), (layout.KERNEL_CALL_CODE_OFFSET, self._cpu.call_code))
        if all(self._guest.ram.read(self._arena + at, len(part)) == part for at, part in code):
            return
        with self._debugger().stopped() as session:
            self._cpu.check(session)
            for at, part in code:
                session.write_physical(self._arena + at, part)
            for number in range(session.cpus):  # a thread may come back on another CPU
                session.select(number)
                self._cpu.leave_exception(session)
                self._flush(session, *((self._arena + at, len(part)) for at, part in code))

    def settle(self) -> None:
        """End what is left of a call that a dead client began; `TargetBusy` while the kernel is in it."""
        if int(_block(self._guest.ram, self._arena)["status"]) != CallStatus.NONE:
            with self._debugger().stopped() as session:
                self._settle(session)

    def call(
        self,
        function: int,
        arguments: Sequence[int],
        place: Window,
        gate: Gate,
        deadline: float,
        keeps: tuple[int, Window | None] | None = None,
        pointed: bytes = b"",
    ) -> int:
        """Return what the kernel's ``function`` returns (32 bits), called by a thread in ``place``.

        ``place`` is code that threads run for a process, holding nothing; they come by from its first
        instruction on. The thread goes on where it was. ``keeps``: the result, when it is not 0, is noted
        under that number as what the kernel keeps a range by; with None for the range, that it keeps
        nothing under that number when the function has returned. ``pointed`` stands in the arena at
        `CALL_ARGUMENTS_OFFSET` from when on the function is called to the next call.

        Raises `TargetTimeout` when no thread comes by, or the function does not return, within ``deadline``
        seconds. In the latter case the call goes on; its result is noted when it returns.
        """
        with self._debugger().stopped() as session:
            self._settle(session)
            to_place(session, self._cpu, place, deadline)
            if any(self._guest.ram.read(gate.physical, GATE_SIZE)):
                raise Refused("memory", f"the words at 0x{gate.virtual:08x} are in use", gate.virtual)
            number, window = keeps or (0, None)
            if window is not None:
                self._note(session, number, 0, window)
            elif number:
                number |= _GIVES_BACK
            if pointed:
                session.write_physical(self._arena + layout.CALL_ARGUMENTS_OFFSET, pointed)
            call = OrderedCall(function, arguments, gate.virtual, number)
            saved = self._cpu.note_call(session, self._arena, call)
            words = self._cpu.gate(self._arena)
            session.write_physical(gate.physical, b"".join(word.to_bytes(4, "big") for word in words))
            self._flush(session, (gate.physical, 4 * len(words)))
            self._cpu.enter_call(session, self._arena, saved)
            session.resume()  # no breakpoint: it would stop the guest when its debugger has died
            wait_for(lambda: int(_block(self._guest.ram, self._arena)["status"]), function, deadline)
            session.interrupt()
            block = _block(self._guest.ram, self._arena)
            result, self.low = int(block["result"]), int(block["result_low"])
            self._settle(session)
            return result

    def call_alone(
        self, session: Session, function: int, arguments: Sequence[int], gate: Gate, deadline: float
    ) -> int:
        """Return what a function returns that one stopped thread calls while all else stands still.

        The thread is where `to_place` leaves it. Interrupts are off: the function must neither sleep nor wait
        for anybody. Raises `TargetTimeout` when it has not returned within ``deadline`` seconds: the thread
        is put back to where it was, and what the function has done stays done.
        """
        self._settle(session)
        if any(self._guest.ram.read(gate.physical, GATE_SIZE)):
            raise Refused("memory", f"the words at 0x{gate.virtual:08x} are in use", gate.virtual)
        call = OrderedCall(function, arguments, gate.virtual, 0, uninterrupted=True)
        saved = self._cpu.note_call(session, self._arena, call)
        words = self._cpu.gate(self._arena)
        session.write_physical(gate.physical, b"".join(word.to_bytes(4, "big") for word in words))
        self._flush(session, (gate.physical, 4 * len(words)))
        self._cpu.enter_call(session, self._arena, saved)
        try:
            session.run_to_physical(saved["pc"], deadline)
            return int(_block(self._guest.ram, self._arena)["result"])
        finally:
            session.write_all(saved.raw)
            self._over(session, gate)

    def _over(self, session: Session, gate: Gate) -> None:
        """Take the gate of a call out that nobody is in any more."""
        session.write_physical(gate.physical, bytes(GATE_SIZE))
        session.write_physical(self._arena + _STATUS, CallStatus.NONE.to_bytes(4, "big"))
        self._flush(session, (gate.physical, GATE_SIZE))

    def _flush(self, session: Session, *spans: tuple[int, int]) -> None:
        self._cpu.call(session, self._arena, [Command(Op.FLUSH, start, size) for start, size in spans])

    def _note(self, session: Session, number: int, handle: int, window: Window | None = None) -> None:
        """Note what the kernel keeps under a number; None leaves the range as it is noted."""
        at = self._arena + layout.KEPT_OFFSET + (number - 1) * layout.KEPT.itemsize
        if window is not None:
            span = window.start.to_bytes(4, "big") + window.end.to_bytes(4, "big")
            session.write_physical(at + field_offset("start", layout.KEPT), span)
        session.write_physical(at, handle.to_bytes(4, "big"))

    def _settle(self, session: Session) -> None:
        """End what is left of a call, if there was one: take its result, close the gate.

        Raises `TargetBusy` when the function has not returned yet.
        """
        for number in range(session.cpus):
            session.select(number)
            if self._cpu.in_kernel_call(GRegisters(session.read_all()), self._arena):
                self._cpu.leave_kernel_call(session, self._arena)
        block = _block(self._guest.ram, self._arena)
        status, number, gate = int(block["status"]), int(block["keeps"]), int(block["gate"])
        if status == CallStatus.NONE:
            return
        if status == CallStatus.CALLED:
            raise TargetBusy(
                f"a call of the kernel's function at 0x{int(block['function']):08x} is still under way"
            )
        if status == CallStatus.RETURNED and number:
            gives_back = number & _GIVES_BACK
            self._note(session, number & ~_GIVES_BACK, 0 if gives_back else int(block["result"]))
        physical = self._to_physical(gate)
        if physical is not None:
            self._cpu.leave_exception(session)
            session.write_physical(physical, bytes(GATE_SIZE))
            self._flush(session, (physical, GATE_SIZE))
        session.write_physical(self._arena + _STATUS, CallStatus.NONE.to_bytes(4, "big"))
