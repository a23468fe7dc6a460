"""Call the stub of a family of Book E, which makes itself a place to run at the first call."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from kgdbpatch.component.protocol import Command
from kgdbpatch.cpu.booke.msr import leave_exception
from kgdbpatch.cpu.booke.window import SPACE
from kgdbpatch.cpu.msr import ME
from kgdbpatch.cpu.stub import Stub
from kgdbpatch.vm.registers import GRegisters

if TYPE_CHECKING:
    from kgdbpatch.component.ports import Session

__all__ = ["STUB", "STUB_440", "Caller"]

_RFCI = 0x4C00_0066
STUB, STUB_440 = (
    Stub(Path(__file__).with_name(f"{name}.bin").read_bytes(), _RFCI, SPACE) for name in ("e500", "ppc440")
)


class Caller(ABC):
    """How the stub is called, found again and ended: that part of the port `Cpu`."""

    stub: ClassVar[Stub]

    @abstractmethod
    def open_window(self, session: Session, arena: int) -> None:
        """Give the stub, which is in its place, a place to run; registers are as before afterwards."""

    @abstractmethod
    def close_window(self, session: Session, arena: int) -> None:
        """Take that place away again."""

    @abstractmethod
    def sees(self, session: Session, arena: int) -> bool:
        """Tell whether the CPU, whose MSR has `SPACE`, finds what `open_window` makes."""

    def is_open(self, session: Session, arena: int) -> bool:
        """Tell whether the stub has all that `open_window` makes."""
        saved = session.read_all()
        registers = GRegisters(saved)
        registers["msr"] = registers["msr"] & ME | SPACE
        # as if a call began: when nobody is left to go on, the stub goes home at once
        session.write_all(registers.raw, later=True)
        try:
            return self.sees(session, arena)
        finally:
            session.write_all(saved, later=True)

    def is_there(self, session: Session, arena: int) -> bool:
        """Tell whether `close_window` has something to take away."""
        return self.is_open(session, arena)

    def call(self, session: Session, arena: int, commands: Sequence[Command]) -> list[int]:
        """Have the stub obey, as `Stub.call`; errors also as of `open_window`."""
        if not self.is_open(session, arena):
            self.open_window(session, arena)
        return self.stub.call(session, arena, commands)

    def release(self, session: Session, arena: int) -> None:
        """Take the place to run away again; the next call makes it anew."""
        leave_exception(session)
        if self.is_there(session, arena):
            self.close_window(session, arena)

    def in_call(self, registers: GRegisters, arena: int) -> bool:
        """Tell whether the CPU was left inside a call."""
        return self.stub.inside(registers, arena)

    def finish_call(self, session: Session, arena: int) -> None:
        """Bring an interrupted call to its end and give the CPU back to the guest."""
        self.stub.finish(session, arena)
