"""Memory for the component from the kernel's own allocator: asked for, found again, given back.

Where the component has no memory yet, a call of the kernel is written down in the stack of the thread that
makes it, below all that is in use there. Its gate lies in unused words of the kernel's text. Behind the gate
stands the anchor: how far the call is, what it returned, and then where the memory is, as long as we have it.
So a client that dies at any moment leaves either nothing, or an anchor that the next one finds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from kgdbpatch.component import layout
from kgdbpatch.component.kernel_calls import GATE_SIZE, Gate, to_place, wait_for
from kgdbpatch.component.layout import CallStatus
from kgdbpatch.component.ports import Aside, OrderedCall
from kgdbpatch.errors import Refused, TargetBusy, TargetTimeout
from kgdbpatch.personality.base import KernelCall, Window
from kgdbpatch.vm.registers import GRegisters

if TYPE_CHECKING:
    from kgdbpatch.component.ports import Cpu, Debugger, KernelCaller, Session
    from kgdbpatch.vm.ram import Machine

__all__ = ["Anchor", "Borrower", "without_anchors"]

_ANCHOR_AT = GATE_SIZE - layout.ANCHOR.itemsize  # in the gate's 64 bytes
_BEFORE_CODE = layout.KERNEL_CALL_CODE_OFFSET - layout.KERNEL_CALL_OFFSET
_RED_ZONE = 0x140  # bytes below r1 that may be in use, more than in any ABI
_LEAST_STACK = 0x800  # bytes that the function must have below
_SETTLED = 5.0  # seconds for a call to return that a dead client began
_LOOK = 0.02  # seconds between two looks at it: nobody tells


@dataclass(frozen=True, slots=True)
class Anchor:
    """What stands behind a gate: a call that is under way, or memory that we have.

    ``memory`` is where the kernel's linear map shows it, 0 before it is allocated, ``size`` its bytes.
    """

    gate: Gate
    state: CallStatus
    result: int
    memory: int
    size: int
    scratch: int  # physical: the call's block, in a stack

    @property
    def base(self) -> int:
        """The address from which the component's parts of a call are counted, as in an arena."""
        return self.scratch - layout.KERNEL_CALL_OFFSET


class Borrower:
    """Has one guest's kernel allocate memory and free it.

    ``places`` returns where a gate can be, used or not, and ``stack_physical`` where a thread's kernel stack
    is in RAM, by a virtual address in it; None where that is not known. ``to_physical`` is for the linear
    map.
    """

    def __init__(
        self,
        guest: Machine,
        debugger: Callable[[], Debugger],
        cpu: Cpu,
        places: Callable[[], Sequence[Gate]],
        stack_physical: Callable[[int], int | None],
        stack_size: Callable[[], int],
        to_physical: Callable[[int], int | None],
    ) -> None:
        self._guest, self._debugger, self._cpu = guest, debugger, cpu
        self._places, self._stack_physical, self._stack_size = places, stack_physical, stack_size
        self._to_physical = to_physical

    def anchor(self) -> Anchor | None:
        """Return the anchor that is in the guest, or None; the guest need not stand still."""
        for place in self._places():
            found = _anchor(self._guest.ram.read(place.physical, GATE_SIZE), place)
            if found is not None:
                return found
        return None

    def settled(self, deadline: float = _SETTLED) -> Anchor | None:
        """Return the anchor of memory that we have, or None; what a client that died began is over then.

        Raises `TargetBusy` when the kernel is still in a call after ``deadline`` seconds.
        """
        found, until = self.anchor(), time.monotonic() + deadline
        while found is not None and found.state != CallStatus.NONE:
            with self._debugger().stopped() as session:
                found = self._settle(session)
            if found is not None and found.state == CallStatus.CALLED:
                if time.monotonic() > until:
                    raise TargetBusy("the kernel has not yet returned from a call of its allocator")
                time.sleep(_LOOK)
        return found

    def borrow(self, call: KernelCall, size: int, place: Window, deadline: float) -> Anchor | None:
        """Have the kernel allocate ``size`` bytes by ``call``; return the anchor, None where it gives none.

        ``place`` as for `KernelCalls.call`, which raises the same.
        """
        assert self.anchor() is None
        free = [gate for gate in self._places() if not any(self._guest.ram.read(gate.physical, GATE_SIZE))]
        if not free:
            raise Refused("memory", "no words are unused behind the kernel's exception vectors")
        anchor = Anchor(free[0], CallStatus.ASKED, 0, 0, size, 0)
        return self._call(anchor, call, place, deadline)

    def give_back(self, anchor: Anchor, call: KernelCall, place: Window, deadline: float) -> None:
        """Have the kernel free what an anchor stands for, by ``call``; nothing may refer to it any more."""
        left = self._call(anchor, call, place, deadline)
        assert left is None

    def hide_ram(self) -> None:
        """Undo what a client that died before it called the kernel has done so that it could."""
        with self._debugger().stopped() as session:
            self._hide_ram(session)

    def forget(self, anchor: Anchor) -> None:
        """Take the anchor of memory that is no longer ours away."""
        with self._debugger().stopped() as session:
            session.write_physical(anchor.gate.physical, bytes(GATE_SIZE))

    def _call(self, anchor: Anchor, call: KernelCall, place: Window, deadline: float) -> Anchor | None:
        with self._debugger().stopped() as session:
            try:
                for number in range(session.cpus):  # the thread may come back on another one
                    session.select(number)
                    self._cpu.show_ram(session, self._guest.ram.size)
                to_place(session, self._cpu, place, deadline)
                if self.anchor() != (anchor if anchor.memory else None):
                    raise TargetBusy("another client has just had the kernel's allocator called")
                self._enter(session, anchor, call)
            except (Refused, TargetTimeout) as error:
                if not isinstance(error, TargetBusy):
                    self._hide_ram(session)
                raise
            session.resume()
            at = anchor.gate.physical + _ANCHOR_AT + 4
            wait_for(lambda: int.from_bytes(self._guest.ram.read(at, 4), "big"), call.function, deadline)
            session.interrupt()
            return self._settle(session)

    def _enter(self, session: Session, anchor: Anchor, call: KernelCall) -> None:
        """Write a call down in the stack of the stopped thread, and send it there."""
        sp = GRegisters(session.read_all())["r1"]
        virtual = self._room(sp)
        physical = self._stack_physical(virtual)
        if physical is None:
            raise Refused("memory", f"where the kernel's stack at 0x{virtual:08x} is in RAM is not known")
        gate, base = anchor.gate, physical - layout.KERNEL_CALL_OFFSET
        caller = self._caller(gate)
        code = caller.call_code
        session.write(virtual + _BEFORE_CODE, code)  # nobody's; where it is physically may be another's
        if self._guest.ram.read(physical + _BEFORE_CODE, len(code)) != code:
            raise Refused(
                "memory", f"the kernel's stack at 0x{virtual:08x} is not at physical 0x{physical:x}"
            )
        gate_at = caller.call_base(gate.physical)
        ordered = OrderedCall(call.function, call.arguments, gate.virtual, 0)
        aside = Aside(virtual, gate_at + _ANCHOR_AT + 4, gate_at)
        saved = caller.note_call(session, base, ordered, aside)
        words = b"".join(word.to_bytes(4, "big") for word in caller.gate(base))
        assert len(words) <= _ANCHOR_AT
        row = np.zeros(1, layout.ANCHOR)
        row["magic"], row["status"], row["scratch"] = layout.ANCHOR_MAGIC, CallStatus.ASKED, physical
        row["memory"], row["size"] = anchor.memory, anchor.size
        before = self._guest.ram.read(gate.physical, GATE_SIZE)
        session.write_physical(gate.physical, words.ljust(_ANCHOR_AT, b"\0") + row.tobytes())
        try:
            caller.enter_call(session, base, saved)
        except Refused:
            session.write_physical(gate.physical, before)
            raise

    def _caller(self, gate: Gate) -> KernelCaller:
        """Return what makes calls that a function returns from by ``gate``, which the linear map shows."""
        return self._cpu.before_memory(gate.virtual - gate.physical)

    def _hide_ram(self, session: Session) -> None:
        for number in range(session.cpus):
            session.select(number)
            self._cpu.hide_ram(session, self._guest.ram.size)

    def _room(self, sp: int) -> int:
        """Return where below a stack pointer a call can be written down, within one page."""
        size = _BEFORE_CODE + len(self._cpu.call_code)
        at = (sp - _RED_ZONE - size) & ~0x1F
        if at // layout.PAGE != (at + size - 1) // layout.PAGE:
            at = (at | layout.PAGE - 1) + 1 - size & ~0x1F
        if at % self._stack_size() < _LEAST_STACK or at // self._stack_size() != sp // self._stack_size():
            raise Refused("memory", f"the kernel's stack has no room below 0x{sp:08x}", sp)
        return at

    def _settle(self, session: Session) -> Anchor | None:
        """End what is left of a call; return the anchor that stays, which says whether it still goes on."""
        found = self.anchor()
        if found is None or found.state == CallStatus.NONE:
            return found
        caller = self._caller(found.gate)
        for number in range(session.cpus):
            session.select(number)
            if caller.in_kernel_call(GRegisters(session.read_all()), found.base):
                caller.leave_kernel_call(session, found.base)
        found = self.anchor()
        assert found is not None
        if found.state == CallStatus.CALLED:
            return found
        returned = found.state == CallStatus.RETURNED
        memory = (0 if found.memory else found.result) if returned else found.memory
        row = np.zeros(1, layout.ANCHOR)
        if memory and not found.memory:
            self._clear(session, memory)
        if memory:
            row["magic"], row["memory"], row["size"] = layout.ANCHOR_MAGIC, memory, found.size
        session.write_physical(found.gate.physical, row.tobytes().rjust(GATE_SIZE, b"\0"))
        self._hide_ram(session)
        return Anchor(found.gate, CallStatus.NONE, 0, memory, found.size, 0) if memory else None

    def _clear(self, session: Session, memory: int) -> None:
        """Zero the beginning of new memory: nothing of the component's is noted there."""
        start = self._to_physical(memory)
        if start is None:
            return
        for at in range(start, start + layout.BASELINE_OFFSET, layout.PAGE):
            if any(self._guest.ram.read(at, layout.PAGE)):
                session.write_physical(at, bytes(layout.PAGE))


def without_anchors(memory: bytes) -> bytes:
    """Return a copy of RAM from physical address 0 on with the words of gates and their anchors unused (0).

    They lie behind code.
    """
    clean = bytearray(memory)
    words = np.frombuffer(memory, ">u4", len(memory) // 4)
    for at in (4 * np.flatnonzero(words == layout.ANCHOR_MAGIC) - _ANCHOR_AT).tolist():
        gate = slice(at, at + GATE_SIZE)
        if at >= 0 and _anchor(memory[gate], Gate(at, at)) is not None:
            clean[gate] = bytes(GATE_SIZE)
    return bytes(clean)


def _anchor(words: bytes, place: Gate) -> Anchor | None:
    """Return the anchor in the words of a gate, or None: a call that is under way has a gate and a block."""
    if len(words) != GATE_SIZE:
        return None
    row = np.frombuffer(words, layout.ANCHOR, offset=_ANCHOR_AT)[0]
    magic, status, memory, size, scratch = (
        int(row[name]) for name in ("magic", "status", "memory", "size", "scratch")
    )
    calls = status != CallStatus.NONE
    if magic != layout.ANCHOR_MAGIC or status > max(CallStatus) or size < layout.LEAST_SIZE:
        return None
    if size & (size - 1):
        return None
    if calls != any(words[:_ANCHOR_AT]) or calls != bool(scratch):
        return None
    return Anchor(place, CallStatus(status), int(row["result"]), memory, size, scratch)
