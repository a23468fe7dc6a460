"""The component's own address space: physical memory at its own addresses, where kernels map nothing.

Book E has no real mode, but two address spaces, of which kernels use one. Wired entries of TLB1 with
MAS1[TS] show the component the memory up to its own.

Somebody has to make them the first time. The kernel has an instruction that writes the TLB, near its
miss handlers; the debugger lets the CPU execute that one, with its own values in the MAS registers. It enters
three pages into TLB0, of which the kernel keeps nothing that it could not find again, and the stub, called
there, does the rest. Where the debugger cannot set the MAS registers of a CPU, the kernel's instructions that
write them are executed, too, one by one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from kgdbpatch.component import layout
from kgdbpatch.component.layout import Op
from kgdbpatch.component.protocol import Command
from kgdbpatch.cpu.booke.msr import DS, IS
from kgdbpatch.cpu.booke.state import ENTRIES, STATE
from kgdbpatch.cpu.booke.tlb import PAGE, Entry, entries, largest
from kgdbpatch.cpu.msr import ME
from kgdbpatch.errors import MemoryFault, Refused
from kgdbpatch.isa import encode
from kgdbpatch.vm.registers import GRegisters

if TYPE_CHECKING:
    from kgdbpatch.component.ports import Session
    from kgdbpatch.cpu.stub import Stub

__all__ = ["SPACE", "close_window", "is_open", "open_window"]

SPACE = IS | DS  # in MSR
_TLBWE = 0x7C00_07A4
_NEAR = 1 << 16  # bytes that the miss handlers lie in: IVPR holds the upper half of their addresses
_MAS = {"mas0": 624, "mas1": 625, "mas2": 626, "mas3": 627, "mas7": 944}
_ANY_REGISTER = 0x03E0_0000
_TLB1 = 1 << 28  # MAS0[TLBSEL]
_ALIAS = 0xF000_0000  # where the first three pages are seen: behind all RAM
_PAGES = (layout.STUB_OFFSET, layout.STATE_OFFSET, layout.CALL_OFFSET)


def is_open(session: Session, arena: int) -> bool:
    """Tell whether the CPU, whose MSR has `SPACE`, finds the arena's memory at its physical address."""
    at, size = arena + layout.STUB_OFFSET, 16
    try:
        return session.read(at, size) == session.read_physical(at, size)
    except MemoryFault:
        return False


def open_window(session: Session, arena: int, stub: Stub) -> None:
    """Enter what `is_open` asks for; the stub is in its place. The registers are as before afterwards.

    Raises `Refused` (rule ``mapping``) for a kernel that uses the other address space, leaves no entry, or
    has no ``tlbwe`` where one is looked for.
    """
    place = _Writer(session)
    for offset in _PAGES:
        mas1, mas2, mas3 = Entry(_ALIAS + offset, arena + offset, PAGE, other_space=True).registers
        place.write({"mas0": 0, "mas1": mas1, "mas2": mas2, "mas3": mas3, "mas7": 0})
    seen_at = _ALIAS - arena
    stub.call(session, arena, [Command(Op.STATE, _ALIAS + layout.STATE_OFFSET)], seen_at)
    state = _state(session, arena)
    known = entries(state)
    theirs = [number for number, page in enumerate(known) if page is not None and page.other_space]
    if theirs:
        raise Refused("mapping", f"the kernel uses the other address space, by entry {theirs[0]} of TLB1")
    size = largest(int(state["tlb1cfg"]))
    free = [number for number in range(ENTRIES - 1, -1, -1) if known[number] is None]
    starts = range(0, arena + 1, size)
    if len(free) < len(starts):
        raise Refused("mapping", "the kernel leaves no entry of TLB1 for the component to run by")
    pages = (Entry(start, start, size, other_space=True) for start in starts)
    orders = [page.command(number) for number, page in zip(free, pages, strict=False)]
    stub.call(session, arena, orders, seen_at)


def close_window(session: Session, arena: int, stub: Stub) -> None:
    """Take out what `open_window` has entered."""
    stub.call(session, arena, [Command(Op.STATE, arena + layout.STATE_OFFSET)])
    place = _Writer(session)
    for number, page in enumerate(entries(_state(session, arena))):
        if page is not None and page.other_space:
            place.write({"mas0": _TLB1 | number << 16, "mas1": 0, "mas2": 0, "mas3": 0, "mas7": 0})


def _state(session: Session, arena: int) -> np.void:
    raw = session.read_physical(arena + layout.STATE_OFFSET, STATE.itemsize)
    state: np.void = np.frombuffer(raw, STATE)[0]
    return state


class _Writer:
    """Has the CPU execute instructions of the kernel's that write the TLB; raises `Refused` without one."""

    def __init__(self, session: Session) -> None:
        self._session, self._places = session, _places(session)
        if _TLBWE not in self._places:
            start = session.register("ivpr") & -_NEAR & 0xFFFF_FFFF
            whose = f"IVPR of CPU {session.cpu}" if session.cpu else "IVPR"
            raise Refused(
                "mapping",
                f"the kernel has no tlbwe from 0x{start:08x} on ({whose}), where its handlers of TLB misses "
                "are: nobody can map the component's memory",
            )

    def write(self, values: dict[str, int]) -> None:
        """Write an entry by these MAS registers; all registers stay."""
        session = self._session
        saved, kept = session.read_all(), {name: session.register(name) for name in _MAS}
        directly = session.settable("mas0")
        give = self._set if directly else self._execute
        try:
            for name, value in values.items():
                if directly or value != kept[name]:
                    give(name, value, saved)
            self._run(self._places[_TLBWE], GRegisters(saved))
        finally:
            for name, value in kept.items():
                if directly or value != values[name]:
                    give(name, value, saved)
            session.write_all(saved)

    def _set(self, name: str, value: int, saved: bytes) -> None:
        self._session.set_register(name, value, later=True)

    def _execute(self, name: str, value: int, saved: bytes) -> None:
        """Give a MAS register a value by the kernel's own ``mtspr``."""
        form = encode.mtspr(_MAS[name], 0)
        word = next((word for word in self._places if word & ~_ANY_REGISTER == form), None)
        if word is None:
            raise Refused(
                "mapping",
                f"nobody can map the component's memory on CPU {self._session.cpu}: QEMU does not set "
                f"{name.upper()}, and the kernel has no mtspr for it near its handlers of TLB misses",
            )
        registers = GRegisters(saved)
        registers[f"r{word >> 21 & 31}"] = value
        self._run(self._places[word], registers)

    def _run(self, place: int, registers: GRegisters) -> None:
        """Execute one instruction, as the kernel does."""
        registers["pc"], registers["msr"] = place, registers["msr"] & ME
        self._session.write_all(registers.raw, later=True)
        self._session.step()


def _places(session: Session) -> dict[int, int]:
    """Return word ─► address of the kernel's instructions that write the TLB or what it is written by.

    They are looked for near its handlers of TLB misses.
    """
    forms = np.array([_TLBWE, *(encode.mtspr(number, 0) for number in _MAS.values())], np.uint32)
    saved, start = session.read_all(), session.register("ivpr") & -_NEAR & 0xFFFF_FFFF
    kernel, found = GRegisters(saved), dict[int, int]()
    kernel["msr"] = kernel["msr"] & ME  # a process may read none of it
    session.write_all(kernel.raw, later=True)
    try:
        for page in range(start, start + _NEAR, PAGE):
            try:
                words = np.frombuffer(session.read(page, PAGE), ">u4").astype(np.uint32)
            except MemoryFault:
                continue
            for index in np.flatnonzero(
                np.isin(words & np.uint32(~_ANY_REGISTER & 0xFFFF_FFFF), forms)
            ).tolist():
                found.setdefault(int(words[index]), page + 4 * index)
    finally:
        session.write_all(saved)
    return found
