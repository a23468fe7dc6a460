"""The component's own address space: physical memory at its own addresses, where kernels map nothing.

Book E has no real mode, but two address spaces, of which kernels use one. Wired entries of TLB1 with
MAS1[TS] show the component the memory up to its own.

Somebody has to make them the first time. The kernel has an instruction that writes the TLB, near its
miss handlers; the debugger lets the CPU execute that one, with its own values in the MAS registers. It enters
three pages into TLB0, of which the kernel keeps nothing that it could not find again, and the stub, called
there, does the rest.
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
from kgdbpatch.vm.registers import GRegisters

if TYPE_CHECKING:
    from kgdbpatch.component.ports import Session
    from kgdbpatch.cpu.stub import Stub

__all__ = ["SPACE", "close_window", "is_open", "open_window"]

SPACE = IS | DS  # in MSR
_TLBWE = (0x7C00_07A4).to_bytes(4, "big")
_NEAR = 1 << 16  # bytes that the miss handlers lie in: IVPR holds the upper half of their addresses
_MAS = ("mas0", "mas1", "mas2", "mas3", "mas7")
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
    place = _tlbwe(session)
    for offset in _PAGES:
        mas1, mas2, mas3 = Entry(_ALIAS + offset, arena + offset, PAGE, other_space=True).registers
        _write(session, place, {"mas0": 0, "mas1": mas1, "mas2": mas2, "mas3": mas3, "mas7": 0})
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
    place = _tlbwe(session)
    for number, page in enumerate(entries(_state(session, arena))):
        if page is not None and page.other_space:
            _write(session, place, {"mas0": _TLB1 | number << 16, "mas1": 0, "mas2": 0, "mas3": 0, "mas7": 0})


def _state(session: Session, arena: int) -> np.void:
    raw = session.read_physical(arena + layout.STATE_OFFSET, STATE.itemsize)
    state: np.void = np.frombuffer(raw, STATE)[0]
    return state


def _tlbwe(session: Session) -> int:
    """Return where the kernel has an instruction that writes the TLB: near its handlers of misses."""
    saved, start = session.read_all(), session.register("ivpr") & -_NEAR & 0xFFFF_FFFF
    kernel = GRegisters(saved)
    kernel["msr"] = kernel["msr"] & ME  # a process may read none of it
    session.write_all(kernel.raw, later=True)
    try:
        for page in range(start, start + _NEAR, PAGE):
            try:
                words = session.read(page, PAGE)
            except MemoryFault:
                continue
            at = next((at for at in range(0, PAGE, 4) if words[at : at + 4] == _TLBWE), None)
            if at is not None:
                return page + at
    finally:
        session.write_all(saved)
    raise Refused(
        "mapping",
        f"the kernel has no tlbwe from 0x{start:08x} on (IVPR), where its handlers of TLB misses are: nobody "
        "can map the component's memory",
    )


def _write(session: Session, place: int, values: dict[str, int]) -> None:
    """Have the CPU execute the ``tlbwe`` at ``place`` with these MAS registers; all registers stay."""
    saved, kept = session.read_all(), {name: session.register(name) for name in _MAS}
    lent = GRegisters(saved)
    lent["pc"], lent["msr"] = place, lent["msr"] & ME
    try:
        for name, value in values.items():
            session.set_register(name, value, later=True)
        session.write_all(lent.raw, later=True)
        session.step()
    finally:
        for name, value in kept.items():
            session.set_register(name, value, later=True)
        session.write_all(saved)
