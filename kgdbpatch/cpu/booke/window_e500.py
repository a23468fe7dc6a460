"""How the component's address space is made on the e500: by TLB0 first, then by TLB1.

The kernel's own `tlbwe`, executed where it stands, enters three pages into TLB0, of which the kernel keeps
nothing that it could not find again; the stub does the rest. Where the debugger cannot set the MAS registers
of a CPU, the kernel's instructions that write them are executed, too, one by one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kgdbpatch.component import layout
from kgdbpatch.component.layout import Op
from kgdbpatch.component.protocol import Command
from kgdbpatch.cpu.booke.state import ENTRIES, STATE
from kgdbpatch.cpu.booke.tlb import PAGE, Entry, entries, largest
from kgdbpatch.cpu.booke.window import TLBWE, KernelCode, noted
from kgdbpatch.errors import Refused
from kgdbpatch.isa import encode
from kgdbpatch.vm.registers import GRegisters

if TYPE_CHECKING:
    from kgdbpatch.component.ports import Session
    from kgdbpatch.cpu.stub import Stub

__all__ = ["close_window", "open_window"]

_MAS = {"mas0": 624, "mas1": 625, "mas2": 626, "mas3": 627, "mas7": 944}
_ANY_REGISTER = 0x03E0_0000
_TLB1 = 1 << 28  # MAS0[TLBSEL]
_ALIAS = 0xF000_0000  # where the first three pages are seen: behind all RAM
_PAGES = (layout.STUB_OFFSET, layout.STATE_OFFSET & -PAGE, layout.CALL_OFFSET)


def open_window(session: Session, arena: int, stub: Stub) -> None:
    """Make the arena's memory be seen (`window.seen`); the stub is in its place. Registers stay as they are.

    Raises `Refused` (rule ``mapping``) for a kernel that uses the other address space, leaves no entry, or
    has no ``tlbwe`` where one is looked for.
    """
    place = _Writer(session)
    for offset in _PAGES:
        mas1, mas2, mas3 = Entry(_ALIAS + offset, arena + offset, PAGE, other_space=True).registers
        place.write({"mas0": 0, "mas1": mas1, "mas2": mas2, "mas3": mas3, "mas7": 0})
    seen_at = _ALIAS - arena
    stub.call(session, arena, [Command(Op.STATE, _ALIAS + layout.STATE_OFFSET)], seen_at)
    state = noted(session, arena, STATE)
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
    for number, page in enumerate(entries(noted(session, arena, STATE))):
        if page is not None and page.other_space:
            place.write({"mas0": _TLB1 | number << 16, "mas1": 0, "mas2": 0, "mas3": 0, "mas7": 0})


class _Writer:
    """Has the CPU execute instructions of the kernel's that write the TLB; raises `Refused` without one."""

    def __init__(self, session: Session) -> None:
        self._session, self._code = session, KernelCode(session)
        forms = (TLBWE, *(encode.mtspr(number, 0) for number in _MAS.values()))
        self._places = self._code.places(forms, _ANY_REGISTER)
        if TLBWE not in self._places:
            raise self._code.no_way("tlbwe")

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
            self._code.run(self._places[TLBWE], GRegisters(saved))
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
        self._code.run(self._places[word], registers)
