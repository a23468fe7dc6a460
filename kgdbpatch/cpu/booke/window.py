"""The component's own address space: physical memory at its own addresses, where kernels map nothing.

Book E has no real mode, but two address spaces, of which kernels use one. Wired entries of the TLB, of the
other one, show the component the memory up to its own.

Somebody has to make them the first time. The kernel has instructions that write the TLB, near its
miss handlers; the debugger lets the CPU execute those, with its own values in registers, and the stub,
called there, does the rest.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from kgdbpatch.component import layout
from kgdbpatch.cpu.booke.msr import DS, IS
from kgdbpatch.cpu.booke.tlb import PAGE
from kgdbpatch.cpu.msr import ME
from kgdbpatch.errors import MemoryFault, Refused
from kgdbpatch.vm.registers import GRegisters

if TYPE_CHECKING:
    from kgdbpatch.component.ports import Session

__all__ = ["SPACE", "TLBWE", "KernelCode", "noted", "seen"]

SPACE = IS | DS  # in MSR
TLBWE = 0x7C00_07A4
NEAR = 1 << 16  # bytes that the miss handlers lie in: IVPR holds the upper half of their addresses


def seen(session: Session, arena: int) -> bool:
    """Tell whether the CPU, whose MSR has `SPACE`, finds the arena's memory at its physical address."""
    at, size = arena + layout.STUB_OFFSET, 16
    try:
        return session.read(at, size) == session.read_physical(at, size)
    except MemoryFault:
        return False


def noted(session: Session, arena: int, kind: np.dtype[np.void]) -> np.void:
    """Return the CPU's state as the stub has noted it."""
    raw = session.read_physical(arena + layout.STATE_OFFSET, kind.itemsize)
    state: np.void = np.frombuffer(raw, kind)[0]
    return state


class KernelCode:
    """The code of the stopped CPU's kernel, as it is mapped for it, from IVPR on."""

    def __init__(self, session: Session) -> None:
        self._session, self.start = session, session.register("ivpr") & -NEAR & 0xFFFF_FFFF

    def words(self, start: int, size: int) -> np.ndarray:
        """Return the words of ``size`` bytes; 0 where nothing is mapped."""
        session = self._session
        saved = session.read_all()
        kernel = GRegisters(saved)
        kernel["msr"] = kernel["msr"] & ME  # a process may read none of it
        session.write_all(kernel.raw, later=True)
        found = []
        try:
            for page in range(start, start + size, PAGE):
                part = min(PAGE, start + size - page)
                try:
                    found.append(session.read(page, part))
                except MemoryFault:
                    found.append(bytes(part))
        finally:
            session.write_all(saved)
        return np.frombuffer(b"".join(found), ">u4").astype(np.uint32)

    def places(self, forms: Iterable[int], free: int) -> dict[int, int]:
        """Return word ─► address of instructions near the miss handlers that are of a form but for bits."""
        words = self.words(self.start, NEAR)
        alike = np.isin(words & np.uint32(~free & 0xFFFF_FFFF), np.fromiter(forms, np.uint32))
        found = dict[int, int]()
        for index in np.flatnonzero(alike).tolist():
            found.setdefault(int(words[index]), self.start + 4 * index)
        return found

    def run(self, place: int, saved: bytes, **registers: int) -> None:
        """Execute one instruction, as the kernel does, with ``registers``; they are ``saved`` afterwards.

        That is one row, together with what is asked for next: no client can die in between.
        """
        given = GRegisters(saved)
        for name, value in registers.items():
            given[name] = value
        given["pc"], given["msr"] = place, given["msr"] & ME
        self._session.write_all(given.raw, later=True)
        self._session.step(later=True)
        self._session.write_all(saved, later=True)

    def no_way(self, what: str) -> Refused:
        """Return the refusal that says that the kernel has not ``what`` near its miss handlers."""
        whose = f"IVPR of CPU {self._session.cpu}" if self._session.cpu else "IVPR"
        return Refused(
            "mapping",
            f"the kernel has no {what} from 0x{self.start:08x} on ({whose}), where its handlers of TLB "
            "misses are: nobody can map the component's memory",
        )
