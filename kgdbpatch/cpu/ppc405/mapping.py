"""How the kernel is shown the arena: by its own page tables alone, from which it fills the TLB in turns.

No entry of the TLB is anybody's to keep: kernels fill all 64, one after the other. So nothing is mapped by
the stub; what a page table of the kernel's maps, its handlers of TLB misses, which run in real mode, bring
back as often as it is needed, code as well as data.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from kgdbpatch.component.layout import BlockEntries, Linear
from kgdbpatch.component.protocol import Command
from kgdbpatch.cpu.ppc405.state import pages
from kgdbpatch.errors import Refused
from kgdbpatch.personality.base import ArenaPlan, Window
from kgdbpatch.vm.ram import Readable

if TYPE_CHECKING:
    from kgdbpatch.component.ports import Session
    from kgdbpatch.component.uninstall import Before
    from kgdbpatch.isa.decode import Instruction

__all__ = ["Paged"]

_PAGE = 4096


class Paged:
    """What the port `Cpu` asks of an MMU whose entries are all the kernel's."""

    def check_blocks(self, arena: ArenaPlan) -> None:
        """Raise `Refused` (rule ``mapping``) unless pages can map the arena."""
        if arena.springboards is not None or arena.tails is not None:
            raise Refused("mapping", "pages for springboards alone are not mapped on the 405 yet")
        for what, at in (("virtual", arena.virtual), ("physical", arena.physical)):
            if at % _PAGE or arena.size % _PAGE or at + arena.size > 1 << 32:
                raise Refused("mapping", f"{what} address 0x{at:08x} of the arena cannot be mapped")

    def check_unmapped(self, arena: ArenaPlan, state: np.void, ram: Readable) -> None:
        """Raise `Refused` (rule ``mapping``) when the TLB maps an address that the arena is to take.

        What page tables map is the personality's to know. What was mapped for the arena itself is no
        conflict.
        """
        windows = [] if arena.linear else [Window(arena.virtual, arena.virtual + arena.size)]
        windows += [arena.near] if arena.near else []
        for page in pages(state):
            if arena.physical <= page.physical < arena.physical + arena.size:
                continue
            for window in windows:
                if page.virtual < window.end and window.start < page.virtual + page.size:
                    raise Refused(
                        "mapping",
                        f"an entry of the TLB maps 0x{page.virtual:08x}, where the arena is to be",
                    )

    def free_entries(
        self, arena: ArenaPlan, state: np.void, *, paged: bool = False
    ) -> tuple[BlockEntries, ...]:
        """Return no entry for any block; raise `Refused` (rule ``mapping``) unless page tables map it."""
        blocks = 1 + (arena.near is not None)
        if not paged and blocks > arena.linear:
            raise Refused(
                "mapping",
                "the 405's TLB is filled by the kernel alone, in turns, and its own page tables, which could "
                "map the arena, are not known: that takes a Linux with modules",
            )
        return (BlockEntries(None, None),) * blocks

    def make_room(self, arena: ArenaPlan, state: np.void) -> list[Command]:
        """Return none: no entries are taken."""
        return []

    def shown(self, arena: ArenaPlan, state: np.void) -> Linear:
        """Tell by what the kernel's linear map shows the arena: by entries that come and go."""
        return Linear.PAGES if arena.linear else Linear.NO

    def mapping(self, arena: ArenaPlan, entries: Sequence[BlockEntries]) -> list[Command]:
        """Return nothing: the page tables say it all."""
        return []

    def tails_mapping(self, arena: ArenaPlan) -> list[Command]:
        """Return nothing: no arena has a window for tails."""
        return []

    def unmapping(
        self, arena: ArenaPlan, entries: Sequence[BlockEntries], state: np.void, ram: Readable, before: Before
    ) -> list[Command]:
        """Return nothing: the kernel is asked to forget what its page tables map, and does so in the TLB."""
        return []

    def page_table(self, session: Session) -> range:
        """Return nothing: the CPU knows of no page table."""
        return range(0)

    def remaps(self, instruction: Instruction) -> bool:
        """Tell whether an instruction writes an entry of the TLB.

        It may be of the kernel's handler of misses, in which the way to a patch would be a miss again.
        """
        return instruction.mnemonic in ("tlbwe", "tlbwehi", "tlbwelo")

    def translate(self, state: np.void, ram: Readable, address: int) -> int | None:
        """Return the physical address of ``address`` where the TLB has it now, else None."""
        for page in pages(state):
            if page.virtual <= address < page.virtual + page.size:
                return page.physical + address - page.virtual
        return None
