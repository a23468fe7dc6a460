"""Call one of the kernel's own functions by a thread that stands where the kernel may be called.

The function may sleep; the guest runs meanwhile. Once the thread is on its way, the call is completed
and the thread goes on where it was without any debugger (kernel_call.S).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from kgdbpatch.component import layout
from kgdbpatch.component.layout import CallStatus
from kgdbpatch.cpu.msr import EE, ME
from kgdbpatch.errors import Misuse, Refused, TargetLost
from kgdbpatch.isa import encode
from kgdbpatch.vm.registers import GRegisters

if TYPE_CHECKING:
    from kgdbpatch.component.ports import Aside, OrderedCall, Session

__all__ = ["CODE", "MOST_ARGUMENTS", "KernelCaller", "LinearCaller", "RealModeCaller"]

CODE = Path(__file__).with_name("kernel_call.bin").read_bytes()
MOST_ARGUMENTS = 8
_RFI = (0x4C00_0064).to_bytes(4, "big")
_RETURNED = CODE.index(_RFI) + 4
_STEPS = 256  # instructions, more than any way through the code
_SRR0, _SRR1 = 26, 27
_MTMSR, _MFMSR = 0x7C00_0124, 0x7C00_00A6
_FRAME = 0x140  # bytes: more than the red zone below r1 in any ABI (Darwin: 224), a multiple of 16
_SCRATCH = 12
_SPACES = 0x30  # MSR: translation on 6xx (IR, DR), the address space on Book E (IS, DS)


class KernelCaller:
    """How a CPU family's thread gets to the component's memory and back: that part of the port `Cpu`.

    ``space`` are the bits of `_SPACES` with which code runs there.
    """

    space: ClassVar[int]
    call_code = CODE

    def call_base(self, arena: int) -> int:
        """Return at which address such code finds the arena's beginning."""
        return arena

    def gate(self, arena: int) -> list[int]:
        """Return the code that a called function returns to: on in the component's memory.

        Interrupts are off from its second instruction on, so SRR0 and SRR1 are nobody else's.
        """
        register = _SCRATCH
        return [
            _MFMSR | register << 21,
            encode.rlwinm(register, register, 0, 17, 15),  # less EE
            _MTMSR | register << 21,
            *encode.load_address(register, self._code_at(arena) + _RETURNED),
            encode.mtspr(_SRR0, register),
            encode.addi(register, 0, ME | self.space),
            encode.mtspr(_SRR1, register),
            encode.rfi(),
        ]

    def _code_at(self, arena: int) -> int:
        return self.call_base(arena) + layout.KERNEL_CALL_CODE_OFFSET

    def in_kernel_call(self, registers: GRegisters, arena: int) -> bool:
        """Tell whether the CPU is in the component's part of a call."""
        start = self._code_at(arena)
        return registers["msr"] & _SPACES == self.space and start <= registers["pc"] < start + len(CODE)

    def leave_kernel_call(self, session: Session, arena: int) -> None:
        """Let the CPU go on until it has left the component's part of a call."""
        for _ in range(_STEPS):
            if not self.in_kernel_call(GRegisters(session.read_all()), arena):
                return
            session.step()
        raise TargetLost("the CPU does not leave the kernel component")

    def note_call(
        self, session: Session, arena: int, call: OrderedCall, aside: Aside | None = None
    ) -> GRegisters:
        """Write down what the stopped thread is to call, and its registers; return them.

        ``aside`` is what is otherwise where the component has no memory of its own yet.
        """
        arguments = call.arguments
        if len(arguments) > MOST_ARGUMENTS:
            raise Misuse(
                f"{len(arguments)} arguments: at most {MOST_ARGUMENTS} words are passed in registers"
            )
        saved = GRegisters(session.read_all())
        block = np.zeros(1, layout.KERNEL_CALL)
        block["status"], block["function"], block["gate"], block["keeps"] = (
            CallStatus.ASKED,
            call.function,
            call.gate,
            call.keeps,
        )
        stack = ((saved["r1"] if aside is None else aside.below) - _FRAME) & ~0xF
        if aside is not None:
            block["answer"], block["gate_at"] = aside.answer, aside.gate_at
        block["stack"] = stack
        for name in ("pc", "msr", "cr", "lr", "ctr", "r0", "r1"):
            block[name] = saved[name]
        block["r3_r12"] = [saved[f"r{number}"] for number in range(3, 13)]
        if call.uninterrupted:  # till the debugger puts the registers back
            block["msr"] = saved["msr"] & ~EE
        padded = [*arguments, *[0] * (MOST_ARGUMENTS - len(arguments))]
        block["arguments"] = [argument & 0xFFFF_FFFF for argument in padded]
        session.write(stack, saved["r1"].to_bytes(4, "big"))  # the back chain
        session.write_physical(arena + layout.KERNEL_CALL_OFFSET, block.tobytes())
        return saved

    def enter_call(self, session: Session, arena: int, saved: GRegisters) -> None:
        """Send the thread with the registers ``saved`` to the call that was noted, when the guest runs next.

        From then on it does not need a debugger.
        """
        lent = GRegisters(saved.raw)
        lent["pc"] = self._code_at(arena)
        lent["msr"] = saved["msr"] & ME | self.space
        session.write_all(lent.raw, later=True)


class RealModeCaller(KernelCaller):
    """How a call gets there where code runs anywhere in RAM, before anything of ours is set up."""

    def before_memory(self, shift: int) -> KernelCaller:
        """Return the CPU itself: code runs anywhere in real mode."""
        return self

    def show_ram(self, session: Session, size: int) -> None:
        """Do nothing: real mode shows it."""

    def hide_ram(self, session: Session, size: int) -> None:
        """Do nothing."""


@dataclass(frozen=True, slots=True)
class LinearCaller(KernelCaller):
    """How a call gets there where the kernel's linear map shows it, ``shift`` above physical addresses."""

    shift: int

    space = 0

    def call_base(self, arena: int) -> int:
        """Return where the linear map shows it."""
        return arena + self.shift & 0xFFFF_FFFF

    def enter_call(self, session: Session, arena: int, saved: GRegisters) -> None:
        """Send the thread there, one instruction far; `Refused` where the linear map shows no code."""
        super(LinearCaller, self).enter_call(session, arena, saved)
        session.step()
        if not self.in_kernel_call(GRegisters(session.read_all()), arena):
            session.write_all(saved.raw)
            at = self._code_at(arena)
            raise Refused("memory", f"the kernel does not let the stack at 0x{at:08x} be executed", at)
