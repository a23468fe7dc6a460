"""How the kernel is shown the arena: by wired entries of the TLB."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from kgdbpatch.component.layout import BlockEntries, Linear
from kgdbpatch.component.protocol import Command
from kgdbpatch.cpu.booke.tlb import PAGE, Entry, pieces
from kgdbpatch.errors import Refused
from kgdbpatch.personality.base import ArenaPlan
from kgdbpatch.vm.ram import Readable

if TYPE_CHECKING:
    from kgdbpatch.component.ports import Session
    from kgdbpatch.component.uninstall import Before
    from kgdbpatch.isa.decode import Instruction

__all__ = ["Wiring"]


class Wiring(ABC):
    """What the port `Cpu` asks of the MMU, by entries that stay in the TLB until somebody takes them out."""

    name: ClassVar[str]
    tlb: ClassVar[str]  # what the CPU's manual calls it
    kind: ClassVar[type[Entry]]
    most: ClassVar[int]  # entries for an arena: the kernel has its own

    @abstractmethod
    def wired(self, state: np.void) -> Mapping[int, Entry | None]:
        """Return the entries that the kernel does not fill and empty as it runs, None for unused ones."""

    @abstractmethod
    def given_back(self, number: int, kept: np.void) -> Command:
        """Return the command by which entry ``number`` is as in the state ``kept``."""

    def _blocks(self, arena: ArenaPlan) -> list[list[Entry]]:
        """Return the pages that show the arena, and those that show its near window."""
        blocks = [list(pieces(arena.virtual, arena.physical, arena.size, self.kind))]
        if arena.near is not None:
            size = arena.near.end - arena.near.start
            last = arena.physical + arena.size
            blocks.append(list(pieces(arena.near.start, last - size, size, self.kind)))
        return blocks

    def check_blocks(self, arena: ArenaPlan) -> None:
        """Raise `Refused` (rule ``mapping``) unless a few entries map the arena."""
        if arena.springboards is not None or arena.tails is not None:
            raise Refused(
                "mapping", f"pages for springboards alone are not mapped on the {self.name} family yet"
            )
        for what, at in (("virtual", arena.virtual), ("physical", arena.physical)):
            if at % PAGE or arena.size % PAGE or at + arena.size > 1 << 32:
                raise Refused("mapping", f"{what} address 0x{at:08x} of the arena cannot be mapped")
        needed = sum(map(len, self._blocks(arena)))
        if needed > self.most:
            raise Refused(
                "mapping",
                f"the arena would take {needed} entries of {self.tlb}: pages are powers of 4 KiB, aligned to "
                "their size on both sides",
            )

    def check_unmapped(self, arena: ArenaPlan, state: np.void, ram: Readable) -> None:
        """Raise `Refused` (rule ``mapping``) when the kernel maps an address that the arena is to take.

        What it maps by its page tables is the personality's to know: the rest of the TLB is but a cache of
        them. What was mapped for the arena itself is no conflict.
        """
        wanted = [page for block in self._blocks(arena) for page in block]
        for page in self.wired(state).values():
            if page is None or page.other_space or page in wanted:
                continue
            for ours in wanted:
                if page.virtual < ours.virtual + ours.size and ours.virtual < page.virtual + page.size:
                    raise Refused(
                        "mapping",
                        f"an entry of {self.tlb} of the kernel maps 0x{page.virtual:08x}, where the arena is "
                        "to be",
                    )

    def free_entries(
        self, arena: ArenaPlan, state: np.void, *, paged: bool = False
    ) -> tuple[BlockEntries, ...]:
        """Return the first entry for each block of the arena: its code and its data are mapped together.

        They are free ones in a row, the highest, or such as were given to it already. Raises `Refused` (rule
        ``mapping``) when the kernel leaves too few.
        """
        known = self.wired(state)
        free = {number for number, page in known.items() if page is None}
        found: list[BlockEntries] = []
        for block in self._blocks(arena):
            size = len(block)
            rows = range(max(known) + 1 - size, min(known) - 1, -1)
            same = (at for at in rows if [known.get(number) for number in range(at, at + size)] == block)
            free_rows = (at for at in rows if free.issuperset(range(at, at + size)))
            first = next(same, None)
            if first is None:
                first = next(free_rows, None)
            if first is None:
                raise Refused(
                    "mapping",
                    f"the kernel leaves no {size} entries of {self.tlb} in a row; the arena cannot be mapped",
                )
            free -= set(range(first, first + size))
            found.append(BlockEntries(first, first))
        return tuple(found)

    def _numbered(self, arena: ArenaPlan, numbers: Sequence[BlockEntries]) -> list[tuple[int, Entry]]:
        return [
            (number, page)
            for pair, block in zip(numbers, self._blocks(arena), strict=True)
            for number, page in enumerate(block, start=pair.instruction or 0)
        ]

    def mapping(self, arena: ArenaPlan, numbers: Sequence[BlockEntries]) -> list[Command]:
        """Return the commands that map the arena."""
        return [page.command(number) for number, page in self._numbered(arena, numbers)]

    def make_room(self, arena: ArenaPlan, state: np.void) -> list[Command]:
        """Return none: entries are free, or they are not."""
        return []

    def shown(self, arena: ArenaPlan, state: np.void) -> Linear:
        """Return `Linear.NO`: no arena lies in the linear map of these families' kernels."""
        return Linear.NO

    def tails_mapping(self, arena: ArenaPlan) -> list[Command]:
        """Return nothing: the vectors of these families have no tails."""
        return []

    def remaps(self, instruction: Instruction) -> bool:
        """Tell whether an instruction writes an entry of the TLB: over a wired one, for all that is known.

        The component also executes the kernel's own `tlbwe` where it stands (window.py).
        """
        return instruction.mnemonic == "tlbwe"

    def page_table(self, session: Session) -> range:
        """Return nothing: the CPU knows of no page table."""
        return range(0)

    def unmapping(
        self,
        arena: ArenaPlan,
        numbers: Sequence[BlockEntries],
        state: np.void,
        ram: Readable,
        before: Before,
    ) -> list[Command]:
        """Return the commands that give the entries back what was in them ``before``."""
        kept = before.state(state.dtype)
        return [self.given_back(number, kept) for number, _ in self._numbered(arena, numbers)]

    def translate(self, state: np.void, ram: Readable, address: int) -> int | None:
        """Return the physical address of ``address`` where a wired entry maps it, else None.

        What the kernel maps by page tables, it alone knows; QEMU's MMU asks it by exceptions.
        """
        for page in self.wired(state).values():
            if page is None or page.other_space:
                continue
            if page.virtual <= address < page.virtual + page.size:
                return page.physical + address - page.virtual
        return None
