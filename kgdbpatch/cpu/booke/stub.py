"""Call the stub of the e500 family, which makes itself a place to run at the first call."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kgdbpatch.component.protocol import Command
from kgdbpatch.cpu.booke.msr import leave_exception
from kgdbpatch.cpu.booke.window import SPACE, close_window, is_open, open_window
from kgdbpatch.cpu.msr import ME
from kgdbpatch.cpu.stub import Stub
from kgdbpatch.vm.registers import GRegisters

if TYPE_CHECKING:
    from kgdbpatch.component.ports import Session

__all__ = ["CODE", "STUB", "call", "release"]

CODE = Path(__file__).with_name("stub.bin").read_bytes()
_RFCI = 0x4C00_0066
STUB = Stub(CODE, _RFCI, SPACE)


def call(session: Session, arena: int, commands: Sequence[Command]) -> list[int]:
    """Have the stub obey, as `Stub.call`; errors also as of `open_window`."""
    if not _is_open(session, arena):
        open_window(session, arena, STUB)
    return STUB.call(session, arena, commands)


def _is_open(session: Session, arena: int) -> bool:
    """Ask as if a call began: when nobody is left to go on, the stub goes home at once."""
    saved = session.read_all()
    registers = GRegisters(saved)
    registers["msr"] = registers["msr"] & ME | SPACE
    session.write_all(registers.raw, later=True)
    try:
        return is_open(session, arena)
    finally:
        session.write_all(saved, later=True)


def release(session: Session, arena: int) -> None:
    """Take the place to run away again; the next call makes it anew."""
    leave_exception(session)
    if _is_open(session, arena):
        close_window(session, arena, STUB)
