"""How the component's address space is made on the e500: by TLB0 first, then by TLB1.

The kernel's own `tlbwe`, executed where it stands, enters three pages into TLB0, of which the kernel keeps
nothing that it could not find again; the stub does the rest. Where the debugger cannot set the MAS registers
of a CPU, the kernel's instructions that write them are executed, too, one by one. Before there is a stub, its
`tlbre` tells what TLB1 holds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from kgdbpatch.component import layout
from kgdbpatch.component.layout import Op
from kgdbpatch.component.protocol import Command
from kgdbpatch.cpu.booke.state import ENTRIES, STATE
from kgdbpatch.cpu.booke.tlb import PAGE, Entry, entries, largest
from kgdbpatch.cpu.booke.window import TLBWE, KernelCode, noted
from kgdbpatch.errors import Refused
from kgdbpatch.isa import encode

if TYPE_CHECKING:
    from kgdbpatch.component.ports import Session
    from kgdbpatch.cpu.stub import Stub

__all__ = ["close_window", "hide_ram", "open_window", "show_ram"]

_MAS = {"mas0": 624, "mas1": 625, "mas2": 626, "mas3": 627, "mas7": 944}
_TLBRE = 0x7C00_0764
_ANY_REGISTER = 0x03E0_0000
_TLB1 = 1 << 28  # MAS0[TLBSEL]
_ALIAS = 0xF000_0000  # where the first three pages are seen: behind all RAM
_PAGES = (layout.STUB_OFFSET, layout.STATE_OFFSET & -PAGE, layout.CALL_OFFSET)


def open_window(session: Session, arena: int, stub: Stub) -> None:
    """Make the arena's memory be seen (`window.seen`); the stub is in its place. Registers stay as they are.

    Raises `Refused` (rule ``mapping``) for a kernel that uses the other address space, leaves no entry, or
    has no ``tlbwe`` where one is looked for.
    """
    place = _Tlb(session)
    for offset in _PAGES:
        mas1, mas2, mas3 = Entry(_ALIAS + offset, arena + offset, PAGE, other_space=True).registers
        place.write({"mas0": 0, "mas1": mas1, "mas2": mas2, "mas3": mas3, "mas7": 0})
    seen_at = _ALIAS - arena
    stub.call(session, arena, [Command(Op.STATE, _ALIAS + layout.STATE_OFFSET)], seen_at)
    state = noted(session, arena, STATE)
    pages = _missing(entries(state), largest(int(state["tlb1cfg"])), arena + 1)
    stub.call(session, arena, [page.command(number) for number, page in pages.items()], seen_at)


def close_window(session: Session, arena: int, stub: Stub) -> None:
    """Take out what `open_window` has entered."""
    stub.call(session, arena, [Command(Op.STATE, arena + layout.STATE_OFFSET)])
    place = _Tlb(session)
    for number, page in enumerate(entries(noted(session, arena, STATE))):
        if page is not None and page.other_space:
            place.enter(number, (0, 0, 0))


def show_ram(session: Session, size: int) -> None:
    """Make the first ``size`` bytes of memory be seen as by `open_window`, where there is no stub yet.

    Raises `Refused` (rule ``mapping``) as that does, and for a kernel that has no ``tlbre`` nearby.
    """
    place = _Tlb(session)
    pages = _missing(place.entries(), largest(session.register("tlb1cfg")), size)
    for number, page in pages.items():
        place.enter(number, page.registers)


def hide_ram(session: Session, size: int) -> None:
    """Take out what `show_ram` has entered."""
    place, pages = _Tlb(session), _showing(largest(session.register("tlb1cfg")), size)
    for number, page in enumerate(place.entries()):
        if page in pages:
            place.enter(number, (0, 0, 0))


def _showing(size: int, end: int) -> list[Entry]:
    """Return the pages of ``size`` bytes that show memory up to ``end`` at its own addresses."""
    return [Entry(start, start, size, other_space=True) for start in range(0, end, size)]


def _missing(known: list[Entry | None], size: int, end: int) -> dict[int, Entry]:
    """Return number ─► entry of those pages that `_showing` names and that are not ``known`` yet.

    Raises `Refused` (rule ``mapping``) where there are too few entries, and where the kernel has others.
    """
    pages = _showing(size, end)
    for number, page in enumerate(known):
        if page is not None and page.other_space and page not in pages:
            raise Refused("mapping", f"the kernel uses the other address space, by entry {number} of TLB1")
    pages = [page for page in pages if page not in known]
    free = [number for number in range(ENTRIES - 1, -1, -1) if known[number] is None]
    if len(free) < len(pages):
        raise Refused("mapping", "the kernel leaves no entry of TLB1 for the component to run by")
    return dict(zip(free, pages, strict=False))


class _Tlb:
    """Has the CPU execute instructions of the kernel's on its TLB; raises `Refused` without one."""

    def __init__(self, session: Session) -> None:
        self._session, self._code = session, KernelCode(session)
        forms = (TLBWE, _TLBRE, *(encode.mtspr(number, 0) for number in _MAS.values()))
        self._places = self._code.places(forms, _ANY_REGISTER)
        if TLBWE not in self._places:
            raise self._code.no_way("tlbwe")
        self._directly = session.settable("mas0")

    def entries(self) -> list[Entry | None]:
        """Return the entries of TLB1."""
        if _TLBRE not in self._places:
            raise self._code.no_way("tlbre")
        session, found = self._session, []
        with self._kept() as saved:
            for number in range(ENTRIES):
                self._give("mas0", _TLB1 | number << 16, saved)
                self._code.run(self._places[_TLBRE], saved)
                words = [session.register(name) for name in ("mas1", "mas2", "mas3", "mas7")]
                found.append(Entry.read(np.array(words, np.uint32)))
        return found

    def enter(self, number: int, words: tuple[int, int, int]) -> None:
        """Give an entry of TLB1 these MAS1, MAS2 and MAS3."""
        given = dict(zip(("mas1", "mas2", "mas3"), words, strict=True))
        self.write({"mas0": _TLB1 | number << 16, **given, "mas7": 0})

    def write(self, values: Mapping[str, int]) -> None:
        """Write an entry by these MAS registers."""
        with self._kept() as saved:
            for name, value in values.items():
                self._give(name, value, saved)
            self._code.run(self._places[TLBWE], saved)

    @contextmanager
    def _kept(self) -> Iterator[bytes]:
        """Yield the general registers; they and the MAS registers are as before afterwards."""
        session = self._session
        saved, kept = session.read_all(), {name: session.register(name) for name in _MAS}
        try:
            yield saved
        finally:
            for name, value in kept.items():
                self._give(name, value, saved)
            session.write_all(saved)

    def _give(self, name: str, value: int, saved: bytes) -> None:
        """Give a MAS register a value, by the kernel's own ``mtspr`` where the debugger cannot."""
        session = self._session
        if self._directly:
            session.set_register(name, value, later=True)
            return
        if session.register(name) == value:
            return
        form = encode.mtspr(_MAS[name], 0)
        word = next((word for word in self._places if word & ~_ANY_REGISTER == form), None)
        if word is None:
            raise Refused(
                "mapping",
                f"nobody can map the component's memory on CPU {session.cpu}: QEMU does not set "
                f"{name.upper()}, and the kernel has no mtspr for it near its handlers of TLB misses",
            )
        self._code.run(self._places[word], saved, **{f"r{word >> 21 & 31}": value})
