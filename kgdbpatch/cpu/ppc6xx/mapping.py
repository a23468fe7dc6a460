"""How the kernel is shown the arena, the springboard page and the vectors' pages: BATs and page entries."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from kgdbpatch.component import layout
from kgdbpatch.component.layout import BlockEntries, Linear, Op
from kgdbpatch.component.protocol import Command
from kgdbpatch.cpu.ppc6xx.room import LARGEST_BLOCK, LEAST_BLOCK, Pair, with_room
from kgdbpatch.cpu.ppc6xx.translate import PAGE, mapped_pages, page_entry
from kgdbpatch.errors import Refused
from kgdbpatch.personality.base import ArenaPlan, Window
from kgdbpatch.vm.ram import Readable

if TYPE_CHECKING:
    from kgdbpatch.component.uninstall import Before
    from kgdbpatch.isa.decode import Instruction

__all__ = [
    "check_blocks",
    "check_unmapped",
    "free_entries",
    "make_room",
    "mapping",
    "page_table",
    "remaps",
    "shown",
    "tails_mapping",
    "unmapping",
]

_DATA = 4  # the number of the first BAT for data (stub.S)
_GIVEN_BACK = 8  # added to the number of a BAT pair (stub.S)
_MAPPING_SPRS = {25, *range(528, 544), *range(560, 576)}  # SDR1, the BATs


class _Block(NamedTuple):
    """A block to be mapped by BATs: the pair's words (PEM 7.4), and whether code in it is executed.

    ``shown``: the kernel maps its data itself.
    """

    upper: int
    lower: int
    executed: bool
    shown: bool


def _blocks(arena: ArenaPlan) -> list[_Block]:
    """Return the blocks of the arena and of its near window.

    With a near window and no springboards all code is executed there: the rest of the arena is data.
    """
    supervisor, memory_coherent, read_write = 2, 0x10, 2
    executed = arena.near is None or arena.springboards is not None
    blocks = [(arena.virtual, arena.physical, arena.size, executed, arena.linear)]
    if arena.near is not None:
        size = arena.near.end - arena.near.start
        blocks.append((arena.near.start, arena.physical + arena.size - size, size, True, False))
    return [
        _Block(
            virtual | (size // 0x20000 - 1) << 2 | supervisor,
            physical | memory_coherent | read_write,
            executed,
            shown,
        )
        for virtual, physical, size, executed, shown in blocks
    ]


def _windows(arena: ArenaPlan) -> list[Window]:
    """Return the virtual addresses that the arena takes."""
    others = [one for one in (arena.near, arena.springboards, arena.tails) if one is not None]
    return others if arena.linear else [Window(arena.virtual, arena.virtual + arena.size), *others]


def check_blocks(arena: ArenaPlan) -> None:
    """Raise `Refused` (rule ``mapping``) unless BATs can map the arena (PEM 7.4.3).

    A block is 128 KiB to 256 MiB, a power of two, and lies at a multiple of its size on both sides.
    """
    near = [] if arena.near is None else [(arena.near.start, arena.near.end - arena.near.start)]
    for virtual, size in ((arena.virtual, arena.size), *near):
        physical = arena.physical + arena.size - size
        if not LEAST_BLOCK <= size <= LARGEST_BLOCK or size & (size - 1):
            raise Refused("mapping", f"no BAT maps {size:#x} bytes: 128 KiB to 256 MiB, a power of two")
        for what, at in (("virtual", virtual), ("physical", physical)):
            if at % size:
                raise Refused(
                    "mapping", f"{what} address 0x{at:08x} of the arena is no multiple of {size:#x}"
                )
        if virtual + size > 1 << 32:
            raise Refused("mapping", f"the arena would end behind all addresses: 0x{virtual + size:x}")


def check_unmapped(arena: ArenaPlan, state: np.void, ram: Readable) -> None:
    """Raise `Refused` (rule ``mapping``) when the kernel maps an address that the arena is to take.

    All valid BATs of the CPU and all entries of its page table are looked at. What was mapped for the arena
    itself is no conflict.
    """
    windows, last = _windows(arena), arena.physical + arena.size
    for kind in ("ibat", "dbat"):
        for upper, lower in state[kind].astype(np.int64).tolist():
            size = ((upper & 0x1FFC) << 15) + LEAST_BLOCK
            start = upper & 0xFFFE_0000
            if not upper & 3 or arena.physical <= lower & 0xFFFE_0000 < last:
                continue
            for window in windows:
                if start < window.end and window.start < start + size:
                    raise Refused(
                        "mapping", f"a BAT of the kernel maps 0x{start:08x}, where the arena is to be"
                    )
    at, physical = mapped_pages(state, ram)
    ours = (arena.physical <= physical) & (physical < last)
    for window in windows:
        taken = at[(window.start <= at) & (at < window.end) & ~ours]
        if taken.size:
            raise Refused(
                "mapping", f"the kernel has mapped 0x{int(taken.min()):08x}, where the arena is to be"
            )


def free_entries(arena: ArenaPlan, state: np.void, *, paged: bool = False) -> tuple[BlockEntries, ...]:
    """Return the BATs for each block of the arena: such as are free or were given to it already.

    ``state`` is the CPU's, in which `make_room` may have to be obeyed first. Raises `Refused` (rule
    ``mapping``) when the kernel uses them all; with ``paged`` the data of a block without one is left to the
    kernel's page tables. Its instructions are not: kernels come out of an exception ready for a fault of
    data, on their stack say, but never for one of their code.
    """
    taken: dict[str, set[int]] = {"ibat": set(), "dbat": set()}
    pairs = {"ibat": _instruction_bats(arena, state), "dbat": state["dbat"].tolist()}

    def free(kind: str, block: _Block) -> int:
        for number, (upper, _) in enumerate(pairs[kind]):
            if number not in taken[kind] and (upper & 3 == 0 or upper == block.upper):
                taken[kind].add(number)
                return number
        what = "instruction" if kind == "ibat" else "data"
        raise Refused(
            "mapping", f"all {what} BATs of the CPU are in use by the kernel; the arena cannot be mapped"
        )

    def data(block: _Block) -> int | None:
        if block.shown:
            return None
        try:
            return free("dbat", block)
        except Refused:
            if not paged:
                raise
            return None

    return tuple(
        BlockEntries(free("ibat", block) if block.executed else None, data(block)) for block in _blocks(arena)
    )


def _instruction_bats(arena: ArenaPlan, state: np.void) -> list[Pair]:
    """Return the CPU's instruction BATs, with room for the arena's where that can be made."""
    pairs: list[Pair] = [tuple(pair) for pair in state["ibat"].tolist()]
    wanted = [block.upper for block in _blocks(arena) if block.executed]
    while sum(upper & 3 == 0 or upper in wanted for upper, _ in pairs) < len(wanted):
        found = with_room(pairs, state["dbat"].tolist())
        if found is None:
            break
        pairs = found
    return pairs


def make_room(arena: ArenaPlan, state: np.void) -> list[Command]:
    """Return the commands that leave the instruction BATs which `free_entries` names to the arena.

    Those of the kernel's text are fewer and larger then (room.py). None where enough are free.
    """
    now, pairs = state["ibat"].tolist(), _instruction_bats(arena, state)
    return [
        Command(Op.BAT, _GIVEN_BACK + number, *pair)
        for number, pair in enumerate(pairs)
        if pair != tuple(now[number])
    ]


def shown(arena: ArenaPlan, state: np.void) -> Linear:
    """Tell by what the kernel's linear map shows the arena: a BAT that it sets up once, or pages."""
    if not arena.linear:
        return Linear.NO
    for upper, lower in state["dbat"].astype(np.int64).tolist():
        start, physical = upper & 0xFFFE_0000, lower & 0xFFFE_0000
        size = ((upper & 0x1FFC) << 15) + LEAST_BLOCK
        inside = start <= arena.virtual and arena.virtual + arena.size <= start + size
        if upper & 2 and inside and physical - start == arena.physical - arena.virtual:
            return Linear.BLOCK
    return Linear.PAGES


def mapping(arena: ArenaPlan, bats: Sequence[BlockEntries]) -> list[Command]:
    """Return the commands that map the arena (BATs) and its springboard page (PTE, PEM 7.6)."""
    commands = [
        Command(Op.BAT, number, block.upper, block.lower)
        for pair, block in zip(bats, _blocks(arena), strict=True)
        for number in _numbers(pair)
    ]
    if arena.springboards is not None:
        page = arena.physical + layout.SPRINGBOARD_OFFSET
        commands.append(Command(Op.MAP, arena.springboards.start, _page(page)))
    return commands


def _page(physical: int) -> int:
    """Return the lower word of a page's entry, the supervisor's alone where its key (Ks) is 0 (PEM 7.5.4)."""
    referenced_changed, memory_coherent, no_user = 0x180, 0x10, 0
    return physical | referenced_changed | memory_coherent | no_user


def tails_mapping(arena: ArenaPlan) -> list[Command]:
    """Return the commands that show the vectors' pages in the window for their tails; none without one."""
    if arena.tails is None:
        return []
    pages = range(arena.tails.start, arena.tails.end, PAGE)
    return [Command(Op.MAP, page, _page(page - arena.tails.start)) for page in pages]


def remaps(instruction: Instruction) -> bool:
    """Tell whether an instruction writes SDR1 or a BAT."""
    number = instruction.word >> 16 & 31 | instruction.word >> 6 & 0x3E0
    return instruction.mnemonic == "mtspr" and number in _MAPPING_SPRS


def page_table(sdr1: int) -> range:
    """Return the physical addresses of the hashed page table."""
    start = sdr1 & 0xFFFF_0000
    return range(start, start + ((sdr1 & 0x1FF) + 1 << 16))


def _numbers(pair: BlockEntries) -> list[int]:
    """Return BATs as the stub counts: data BATs follow the four for instructions."""
    found = [] if pair.instruction is None else [pair.instruction]
    return found if pair.data is None else [*found, _DATA + pair.data]


def unmapping(
    arena: ArenaPlan, bats: Sequence[BlockEntries], state: np.void, ram: Readable, before: Before
) -> list[Command]:
    """Return the commands that give BATs and page table entries back what was in them ``before``.

    An entry is first entered anew, by which the CPU forgets it (``tlbie``), and is gone before the CPU
    translates anything. One that held another page then is not valid any more.
    """
    kept = before.state(state.dtype)
    old = [*kept["ibat"].tolist(), *kept["dbat"].tolist()]
    numbers = [number for pair in bats for number in _numbers(pair)]
    now = state["ibat"].tolist()
    for number, pair in enumerate(_instruction_bats(arena, kept)):
        if number not in numbers and pair == tuple(now[number]) != tuple(old[number]):
            numbers.append(number)  # the kernel's own, larger since `make_room`
    commands = [Command(Op.BAT, _GIVEN_BACK + number, *old[number]) for number in numbers]
    table = page_table(int(state["sdr1"]))
    ours = [command for command in (*mapping(arena, bats), *tails_mapping(arena)) if command.op is Op.MAP]
    for command in ours:
        at = page_entry(state, ram, command.a)
        if at is None or int.from_bytes(ram.read(at + 4, 4), "big") & -PAGE != command.b & -PAGE:
            continue
        upper, lower = np.frombuffer(before.table(at - table.start, 8), ">u4").tolist()
        upper, lower = (0, 0) if upper >> 31 else (upper, lower)
        commands += [command, Command(Op.STORE, at, upper), Command(Op.STORE, at + 4, lower)]
    return commands
