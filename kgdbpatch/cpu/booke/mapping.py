"""How the kernel is shown the arena: by wired entries of TLB1."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from kgdbpatch.component.layout import BlockEntries, Linear, Op
from kgdbpatch.component.protocol import Command
from kgdbpatch.cpu.booke.state import ENTRIES
from kgdbpatch.cpu.booke.tlb import GIVEN_BACK, PAGE, Entry, entries, pieces
from kgdbpatch.errors import Refused
from kgdbpatch.personality.base import ArenaPlan
from kgdbpatch.vm.ram import Readable

if TYPE_CHECKING:
    from kgdbpatch.component.ports import Session
    from kgdbpatch.component.uninstall import Before
    from kgdbpatch.isa.decode import Instruction

__all__ = [
    "check_blocks",
    "check_unmapped",
    "free_entries",
    "mapping",
    "merged",
    "page_table",
    "remaps",
    "shown",
    "tails_mapping",
    "translate",
    "unmapping",
]

_MOST = 8  # entries, of 16: the kernel has its own


def _blocks(arena: ArenaPlan) -> list[list[Entry]]:
    """Return the pages that show the arena, and those that show its near window."""
    blocks = [list(pieces(arena.virtual, arena.physical, arena.size))]
    if arena.near is not None:
        size = arena.near.end - arena.near.start
        blocks.append(list(pieces(arena.near.start, arena.physical + arena.size - size, size)))
    return blocks


def check_blocks(arena: ArenaPlan) -> None:
    """Raise `Refused` (rule ``mapping``) unless a few entries of TLB1 map the arena."""
    if arena.springboards is not None or arena.tails is not None:
        raise Refused("mapping", "pages for springboards alone are not mapped on the e500 family yet")
    for what, at in (("virtual", arena.virtual), ("physical", arena.physical)):
        if at % PAGE or arena.size % PAGE or at + arena.size > 1 << 32:
            raise Refused("mapping", f"{what} address 0x{at:08x} of the arena cannot be mapped")
    needed = sum(map(len, _blocks(arena)))
    if needed > _MOST:
        raise Refused(
            "mapping",
            f"the arena would take {needed} entries of TLB1: pages are powers of 4 KiB, aligned to their "
            "size on both sides",
        )


def check_unmapped(arena: ArenaPlan, state: np.void, ram: Readable) -> None:
    """Raise `Refused` (rule ``mapping``) when the kernel maps an address that the arena is to take.

    What it maps by its page tables is the personality's to know: the rest of the TLB is but a cache of them.
    What was mapped for the arena itself is no conflict.
    """
    wanted = [page for block in _blocks(arena) for page in block]
    for page in entries(state):
        if page is None or page.other_space or page in wanted:
            continue
        for ours in wanted:
            if page.virtual < ours.virtual + ours.size and ours.virtual < page.virtual + page.size:
                raise Refused(
                    "mapping",
                    f"an entry of TLB1 of the kernel maps 0x{page.virtual:08x}, where the arena is to be",
                )


def merged(states: Sequence[np.void]) -> np.void:
    """Return the first CPU's state, with the entries that are valid on others where it has none."""
    state = states[0].copy()
    for other in states[1:]:
        for number, page in enumerate(entries(state)):
            if page is None:
                state["tlb1"][number] = other["tlb1"][number]
    return state


def free_entries(arena: ArenaPlan, state: np.void, *, paged: bool = False) -> tuple[BlockEntries, ...]:
    """Return the first entry of TLB1 for each block of the arena: its code and its data are mapped together.

    They are free ones in a row, the highest, since kernels take them from the first on, or such as were
    given to it already. Raises `Refused` (rule ``mapping``) when the kernel leaves too few.
    """
    known = entries(state)
    free = {number for number, page in enumerate(known) if page is None}
    found: list[BlockEntries] = []
    for block in _blocks(arena):
        size = len(block)
        rows = range(ENTRIES - size, -1, -1)
        same = (at for at in rows if known[at : at + size] == block)
        free_rows = (at for at in rows if free.issuperset(range(at, at + size)))
        first = next(same, None)
        if first is None:
            first = next(free_rows, None)
        if first is None:
            raise Refused(
                "mapping",
                f"the kernel leaves no {size} entries of TLB1 in a row; the arena cannot be mapped",
            )
        free -= set(range(first, first + size))
        found.append(BlockEntries(first, first))
    return tuple(found)


def shown(arena: ArenaPlan, state: np.void) -> Linear:
    """Return `Linear.NO`: no arena lies in the linear map of this family's kernels."""
    return Linear.NO


def mapping(arena: ArenaPlan, numbers: Sequence[BlockEntries]) -> list[Command]:
    """Return the commands that map the arena."""
    return [
        page.command(number)
        for pair, block in zip(numbers, _blocks(arena), strict=True)
        for number, page in enumerate(block, start=pair.instruction or 0)
    ]


def tails_mapping(arena: ArenaPlan) -> list[Command]:
    """Return nothing: the vectors of this family have no tails."""
    return []


def remaps(instruction: Instruction) -> bool:
    """Tell whether an instruction writes an entry of the TLB: over a wired one, for all that is known.

    The component also executes the kernel's own `tlbwe` where it stands (window.py).
    """
    return instruction.mnemonic == "tlbwe"


def page_table(session: Session) -> range:
    """Return nothing: the CPU knows of no page table."""
    return range(0)


def unmapping(
    arena: ArenaPlan, numbers: Sequence[BlockEntries], state: np.void, ram: Readable, before: Before
) -> list[Command]:
    """Return the commands that give the entries of TLB1 back what was in them ``before``."""
    kept = before.state(state.dtype)["tlb1"].tolist()
    commands = []
    for command in mapping(arena, numbers):
        number = command.c & ENTRIES - 1
        mas1, mas2, mas3, _ = kept[number]
        commands.append(Command(Op.TLB, mas2, mas3, mas1 & ~0xFF | GIVEN_BACK | number))
    return commands


def translate(state: np.void, ram: Readable, address: int) -> int | None:
    """Return the physical address of ``address`` where a wired entry maps it, else None.

    What the kernel maps by page tables, it alone knows; QEMU's MMU asks it by exceptions.
    """
    for page in entries(state):
        if page is not None and not page.other_space and page.virtual <= address < page.virtual + page.size:
            return page.physical + address - page.virtual
    return None
