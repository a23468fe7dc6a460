"""Where the arena may be mapped: judged by the CPU's BATs, its page table and the rules for blocks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from component.fake import FakeRam

from kgdbpatch.component.layout import BlockEntries
from kgdbpatch.cpu.ppc6xx.mapping import check_blocks, check_unmapped, free_entries
from kgdbpatch.cpu.ppc6xx.state import STATE
from kgdbpatch.cpu.ppc6xx.translate import mapped_pages, translate
from kgdbpatch.errors import Refused
from kgdbpatch.personality.base import ArenaPlan, Window

MIB = 1 << 20
PLAN = ArenaPlan(256 * MIB, 32 * MIB, 0xB000_0000, Window(0x1000, 0x2000), Window(0xBF00_0000, 0xC000_0000))
TABLE, SIZE = 0x20000, 0x20000  # of hashed pages: 2048 groups


class Memory(FakeRam):
    def __init__(self) -> None:
        super().__init__(TABLE + SIZE)

    def enter(self, vsid: int, at: int, physical: int, *, secondary: bool = False, slot: int = 0) -> None:
        page = at >> 12 & 0xFFFF
        group = (vsid ^ page ^ -secondary) & (SIZE // 64 - 1)
        upper = 1 << 31 | vsid << 7 | secondary << 6 | page >> 10
        entry = TABLE + 64 * group + 8 * slot
        self.put(entry, upper, physical | 0x192)


@pytest.fixture
def state() -> np.void:
    found = np.zeros(1, STATE)
    found["sdr1"] = TABLE | SIZE // 0x10000 - 1
    found["sr"] = [0x111 * segment + 0x2345 for segment in range(16)]
    state: np.void = found[0]
    return state


def bat(start: int, size: int) -> int:
    return start | (size // 0x20000 - 1) << 2 | 2


def test_nothing_mapped_is_no_conflict(state: np.void) -> None:
    check_unmapped(PLAN, state, Memory())


@pytest.mark.parametrize("kind", ["ibat", "dbat"])
@pytest.mark.parametrize(
    ("start", "size", "taken"),
    [
        (0xB000_0000, 256 * MIB, True),  # around all of it
        (0xB1FE_0000, 0x20000, True),  # its last block
        (0xB200_0000, 32 * MIB, False),
        (0xA000_0000, 256 * MIB, False),
        (0xBF80_0000, 8 * MIB, True),  # the near window
        (0x0000_0000, 0x20000, True),  # the springboards
        (0xC000_0000, 256 * MIB, False),
    ],
)
def test_bats_of_the_kernel(state: np.void, kind: str, start: int, size: int, taken: bool) -> None:
    state[kind][3] = (bat(start, size), 0x0000_0002)
    if taken:
        with pytest.raises(Refused, match=f"BAT of the kernel maps 0x{start:08x}") as refused:
            check_unmapped(PLAN, state, Memory())
        assert refused.value.rule == "mapping"
    else:
        check_unmapped(PLAN, state, Memory())


def test_invalid_bats_and_those_of_the_arena_do_not_count(state: np.void) -> None:
    state["dbat"][0] = (bat(0xB000_0000, 32 * MIB) & ~3, 2)
    state["dbat"][1] = (bat(0xB000_0000, 32 * MIB), PLAN.physical | 0x12)
    check_unmapped(PLAN, state, Memory())


def valid(state: np.void, kind: str, *numbers: int) -> None:
    for number in numbers:
        state[kind][number] = (bat(0xC000_0000 + number * 4 * MIB, 4 * MIB), 0x0000_0002)


def test_blocks_take_bats_of_either_kind_as_they_are_free(state: np.void) -> None:
    valid(state, "ibat", 0, 1, 2)
    valid(state, "dbat", 0)
    at_the_top = replace(PLAN, springboards=None)  # as on Linux: code only in the near window
    assert free_entries(at_the_top, state) == (BlockEntries(None, 1), BlockEntries(3, 2))
    with pytest.raises(Refused, match="all instruction BATs") as refused:
        free_entries(PLAN, state)  # code in both
    assert refused.value.rule == "mapping"
    valid(state, "dbat", 1, 2)
    with pytest.raises(Refused, match="all data BATs"):
        free_entries(at_the_top, state)


def test_what_no_bat_is_left_for_is_left_to_the_kernels_pages(state: np.void) -> None:
    at_the_top = replace(PLAN, springboards=None)
    valid(state, "dbat", 0, 1, 2)
    assert free_entries(at_the_top, state, paged=True) == (BlockEntries(None, 3), BlockEntries(0, None))
    valid(state, "dbat", 3)
    assert free_entries(at_the_top, state, paged=True) == (BlockEntries(None, None), BlockEntries(0, None))
    valid(state, "ibat", 0, 1, 2, 3)
    with pytest.raises(Refused, match="all instruction BATs"):
        free_entries(at_the_top, state, paged=True)  # no kernel takes a page fault for code wherever it is


def test_the_arenas_own_bats_are_taken_again(state: np.void) -> None:
    first = free_entries(PLAN, state)
    assert first == (BlockEntries(0, 0), BlockEntries(1, 1))
    valid(state, "ibat", 2, 3)
    for (number, _), window in zip(first, (PLAN.virtual, PLAN.near.start if PLAN.near else 0), strict=True):
        size = 32 * MIB if window == PLAN.virtual else 16 * MIB
        state["ibat"][number] = state["dbat"][number] = (bat(window, size), PLAN.physical | 0x12)
    assert free_entries(PLAN, state) == first


@pytest.mark.parametrize("secondary", [False, True])
@pytest.mark.parametrize(
    ("at", "taken"),
    [(0xB000_0000, True), (0xB1FF_F000, True), (0xB200_0000, False), (0xBFFF_F000, True), (0x1000, True)],
)
def test_pages_of_the_kernel(state: np.void, at: int, taken: bool, secondary: bool) -> None:
    memory = Memory()
    vsid = int(state["sr"][at >> 28])
    memory.enter(vsid, at, 0x0123_4000, secondary=secondary, slot=7)
    memory.enter(vsid + 1, 0xB000_3000, 0x0567_8000)  # of an address space that is not the present one
    pages, physical = mapped_pages(state, memory)
    assert dict(zip(pages.tolist(), physical.tolist(), strict=True)) == {at: 0x0123_4000}
    assert translate(state, memory, at) == 0x0123_4000
    if taken:
        with pytest.raises(Refused, match=f"has mapped 0x{at:08x}"):
            check_unmapped(PLAN, state, memory)
    else:
        check_unmapped(PLAN, state, memory)


@pytest.mark.parametrize(
    "wrong",
    [
        replace(PLAN, size=48 * MIB, near=None),  # no power of two
        replace(PLAN, size=0x10000, near=None),  # too small
        replace(PLAN, size=512 * MIB, virtual=0xA000_0000, physical=512 * MIB, near=None),
        replace(PLAN, physical=264 * MIB),
        replace(PLAN, virtual=0xB100_0000),
        replace(PLAN, near=Window(0xBF80_0000, 0xC080_0000)),
        replace(PLAN, near=Window(0xBF00_0000, 0xBFC0_0000 + 0x10_0000)),
    ],
)
def test_what_no_bat_maps(wrong: ArenaPlan) -> None:
    check_blocks(PLAN)
    with pytest.raises(Refused) as refused:
        check_blocks(wrong)
    assert refused.value.rule == "mapping"
