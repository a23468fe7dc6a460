"""How the component's address space is made on the 440, whose TLB the kernel fills in turns.

The kernel's own `tlbwe`, executed where it stands, makes the entry by which the stub runs first. The
stub has the kernel fill fewer entries from then on (watermark.py): those behind are the component's.

QEMU 7.2 does not look at the address space when `tlbsx` searches: a kernel that takes a page of a process out
of the TLB may take out one of ours that is seen at the same address. Such entries are made anew before each
call. A thread that comes back from one of the kernel's functions needs its own in between: that one is seen
where no process is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from kgdbpatch.component import layout
from kgdbpatch.component.layout import Op
from kgdbpatch.component.protocol import Command
from kgdbpatch.cpu.booke.state import STATE_440
from kgdbpatch.cpu.booke.tlb import PAGE, Entry440
from kgdbpatch.cpu.booke.watermark import Watermark, find, leave_turns
from kgdbpatch.cpu.booke.window import TLBWE, KernelCode, noted
from kgdbpatch.errors import MemoryFault, Refused

if TYPE_CHECKING:
    from kgdbpatch.component.ports import Session
    from kgdbpatch.cpu.stub import Stub
    from kgdbpatch.vm.ram import Readable

__all__ = ["CALL_BASE", "changed_text", "close_window", "is_lowered", "is_open", "open_window", "own_entries"]

RESERVED = 10  # entries that the kernel no longer fills: the component's place to run, and the arena
_LEAST = 24  # entries that are left to it
_SIZE = 1 << 28  # bytes: the largest page
_WORDS = (0, 0x800, 0x1000)  # in `tlbwe`: which word of an entry
_ANY_REGISTERS = 0x03FF_0000
_LOWERED = 1
CALL_BASE = 0xF000_0000  # where calls of the kernel's functions find the arena: above all processes
_CALL_PAGE = layout.KERNEL_CALL_OFFSET & -PAGE

assert layout.KERNEL_CALL_CODE_OFFSET & -PAGE == layout.STATE_OFFSET & -PAGE == _CALL_PAGE


def is_open(session: Session, arena: int) -> bool:
    """Tell whether the CPU, whose MSR has `SPACE`, has all that `open_window` makes."""
    return is_lowered(session, arena) and all(_seen(session, page) for page in _pages(arena))


def is_lowered(session: Session, arena: int) -> bool:
    """Tell whether the kernel leaves the component's entries alone."""
    at = arena + layout.STATE_OFFSET + _offset("lowered")
    return int.from_bytes(session.read_physical(at, 4), "big") == _LOWERED


def _seen(session: Session, page: Entry440) -> bool:
    """Tell whether a page is mapped; its beginning is all that is looked at."""
    try:
        session.read(page.virtual, 4)
    except MemoryFault:
        return False
    return True


def _pages(arena: int) -> list[Entry440]:
    """Return the pages of the other address space, in the order of their entries, the last entry first."""
    starts = range(0, arena + 1, _SIZE)
    pages = [Entry440(start, start, _SIZE, other_space=True) for start in reversed(starts)]
    return [*pages, Entry440(CALL_BASE + _CALL_PAGE, arena + _CALL_PAGE, PAGE, other_space=True)]


def changed_text(ram: Readable, arena: int) -> dict[int, int]:
    """Return virtual address ─► the kernel's word of instructions that `open_window` has changed."""
    raw = ram.read(arena + layout.STATE_OFFSET, STATE_440.itemsize)
    state = np.frombuffer(raw, STATE_440)[0]
    return dict(state["bounds"].tolist()) if int(state["lowered"]) == _LOWERED else {}


def own_entries(state: np.void) -> range:
    """Return the numbers of the entries that are given up for the arena, by what was noted."""
    last = int(state["last"])
    return range(last + 1 - RESERVED, last + 1 - int(state["pages"]))


def open_window(session: Session, arena: int, stub: Stub) -> None:
    """Make the arena's memory be seen (`window.seen`), for good; the stub is in its place. Registers stay.

    Raises `Refused` (rule ``mapping``) for a kernel that uses the other address space, or of which it is not
    known how it fills the TLB, `TargetTimeout` where it is just about to.
    """
    code, pages = KernelCode(session), _pages(arena)
    if is_lowered(session, arena):
        last = int(noted(session, arena, STATE_440)["last"])
        writer = _Writer(session, code)
        for number, page in zip(range(last, -1, -1), pages, strict=False):
            writer.write(number, page.registers)
        return
    mark = find(session, code)
    if mark.last < _LEAST + RESERVED:
        raise Refused("mapping", f"the kernel fills no more than {mark.last + 1} entries of the TLB")
    writer = _Writer(session, code)
    leave_turns(session, mark)
    writer.write(mark.last, pages[0].registers)
    stub.call(session, arena, [Command(Op.STATE, arena + layout.STATE_OFFSET)])
    known = [Entry440.read(words) for words in noted(session, arena, STATE_440)["tlb"]]
    for number, one in enumerate(known):
        if one is not None and one.other_space and one not in pages:
            raise Refused("mapping", f"the kernel uses the other address space, by entry {number} of the TLB")
    kernel = [one for one in known[mark.last + 1 :] if one is not None and not one.other_space]
    numbers = range(mark.last, mark.last - RESERVED, -1)
    low = mark.last - RESERVED
    orders = [
        *(Entry440.none(number) for number in numbers[1:]),
        *(page.command(number) for number, page in zip(numbers[1:], pages[1:], strict=False)),
        *_bounded(mark, kernel, mark.last, low),  # in memory that these show
        Command(Op.STORE, arena + layout.STATE_OFFSET + _offset("lowered"), _LOWERED),
    ]
    note = np.zeros(1, STATE_440)
    note["bounds"], note["variable"], note["last"] = mark.bounds, mark.variable, mark.last
    note["pages"] = len(pages)
    at = arena + layout.STATE_OFFSET + _offset("bounds")
    session.write_physical(at, note.tobytes()[_offset("bounds") :], later=True)
    stub.call(session, arena, orders)


def close_window(session: Session, arena: int, stub: Stub) -> None:
    """Give the kernel its entries back, and take out what `open_window` has entered."""
    stub.call(session, arena, [Command(Op.STATE, arena + layout.STATE_OFFSET)])
    state = noted(session, arena, STATE_440)
    bounds = tuple((int(at), int(word)) for at, word in state["bounds"])
    mark = Watermark(bounds, int(state["variable"]), int(state["last"]), ())
    known = [Entry440.read(words) for words in state["tlb"]]
    kernel = [one for one in known[mark.last + 1 :] if one is not None and not one.other_space]
    stub.call(
        session,
        arena,
        [
            *_bounded(mark, kernel, mark.last - RESERVED, mark.last),
            Command(Op.STORE, arena + layout.STATE_OFFSET + _offset("lowered"), 0),
        ],
    )
    writer = _Writer(session, KernelCode(session))
    for number, one in enumerate(known):
        if one is not None and one.other_space:
            writer.write(number, (0, 0, 0))


def _offset(name: str) -> int:
    fields = STATE_440.fields
    assert fields is not None
    return int(fields[name][1])


def _bounded(mark: Watermark, kernel: list[Entry440], now: int, then: int) -> list[Command]:
    """Return the commands after which the kernel fills entries up to ``then``, not up to ``now``."""

    def physical(address: int) -> int:
        for page in kernel:
            if page.virtual <= address < page.virtual + page.size:
                return page.physical + address - page.virtual
        raise Refused("mapping", f"the kernel's memory at 0x{address:08x} is not mapped for good")

    words = [(physical(at), word & 0xFFFF_0000) for at, word in mark.bounds]
    return [
        *(Command(Op.SPLICE, at, word | now, word | then) for at, word in words),
        Command(Op.STORE, physical(mark.variable), then),
    ]


class _Writer:
    """Has the CPU execute instructions of the kernel's that write the TLB; raises `Refused` without them."""

    def __init__(self, session: Session, code: KernelCode) -> None:
        self._session, self._code = session, code
        found = code.places([TLBWE | which for which in _WORDS], _ANY_REGISTERS)
        self._places: dict[int, tuple[int, int]] = {}  # of each word of an entry: where, and by what
        for word, at in found.items():
            if word >> 21 & 31 != word >> 16 & 31:
                self._places.setdefault(word & 0x1800, (at, word))
        if len(self._places) < len(_WORDS):
            raise code.no_way("tlbwe for each word of an entry")

    def write(self, number: int, words: tuple[int, int, int]) -> None:
        """Write an entry of every process; all registers stay."""
        session = self._session
        saved, mmucr = session.read_all(), session.register("mmucr")
        session.set_register("mmucr", 0, later=True)
        try:
            # not valid while it is neither the one nor the other
            for which, value in ((0, 0), (2, words[2]), (1, words[1]), (0, words[0])):
                place, word = self._places[_WORDS[which]]
                given = {f"r{word >> 21 & 31}": value, f"r{word >> 16 & 31}": number}
                self._code.run(place, saved, **given)
        finally:
            session.set_register("mmucr", mmucr, later=True)
            session.write_all(saved)
