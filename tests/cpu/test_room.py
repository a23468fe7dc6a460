"""A BAT for the arena where the kernel's text takes all four: its blocks are made fewer, and back again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from component.fake import FakeRam
from hypothesis import assume, given
from hypothesis import strategies as st

from kgdbpatch.component.layout import BlockEntries, Linear, Op
from kgdbpatch.component.protocol import Command
from kgdbpatch.component.uninstall import Before
from kgdbpatch.cpu.ppc6xx.mapping import free_entries, make_room, mapping, shown, unmapping
from kgdbpatch.cpu.ppc6xx.room import Pair, with_room
from kgdbpatch.cpu.ppc6xx.state import STATE
from kgdbpatch.errors import Refused
from kgdbpatch.personality.base import ArenaPlan, Window

KIB, MIB = 1 << 10, 1 << 20
BASE, UNIT = 0xC000_0000, 128 * KIB
PLAN = ArenaPlan(256 * MIB, 32 * MIB, 0xB000_0000, near=Window(0xBF00_0000, 0xC000_0000))
READ_ONLY, READ_WRITE, GUARDED = 3, 2, 8


def bat(start: int, size: int, *, physical: int | None = None, bits: int = READ_WRITE) -> Pair:
    """Return the words of a BAT for a kernel whose memory begins at BASE."""
    return start | (size // UNIT - 1) << 2 | 2, (start - BASE if physical is None else physical) | bits


def covered(start: int, end: int, most: int, *, doubled: bool) -> list[Pair]:
    """Return the blocks by which Linux maps a range from 0 on: each as large as it can be, ``most`` of them.

    The last one is twice as large where the range would not be covered (arch/powerpc/mm/book3s32/mmu.c).
    """
    found: list[Pair] = []
    while start < end and len(found) < most:
        size = min(256 * MIB, start & -start or 256 * MIB, 1 << (end - start).bit_length() - 1)
        size *= 1 + (doubled and len(found) == most - 1 and end - start > size)
        found.append(bat(BASE + start, size))
        start += size
    return found


def four(pairs: list[Pair]) -> list[Pair]:
    return [*pairs, *[(0, 0)] * (4 - len(pairs))]


def seen(pairs: list[Pair], at: int) -> list[tuple[int, int]]:
    """Return what each BAT that matches makes of an address, and its bits (PEM 7.4.2)."""
    found = []
    for upper, lower in pairs:
        length = (upper >> 2 & 0x7FF) << 17
        if upper & 3 and (at ^ upper) & 0xFFFE_0000 & ~length == 0:
            found.append((lower & 0xFFFE_0000 & ~length | at & length, lower & 0x7F | (upper & 3) << 8))
    return found


def assert_sound(before: list[Pair], after: list[Pair], data: list[Pair]) -> None:
    """Nothing is translated otherwise, no address by two; what is new is memory that data BATs show there."""
    borders = {upper & 0xFFFE_0000 for upper, _ in (*before, *after)}
    ends = {(upper & 0xFFFE_0000) + ((upper >> 2 & 0x7FF) + 1) * UNIT for upper, _ in (*before, *after)}
    places = {at + step for at in borders | ends for step in (-UNIT, 0, UNIT)}
    for upper, _ in after:
        first = upper & 0xFFFE_0000
        places |= {first + number * UNIT for number in range((upper >> 2 & 0x7FF) + 1)}
    for at in places:
        old, new = seen(before, at), seen(after, at)
        assert len(new) <= 1
        if old:
            assert new == old
        elif new:
            assert new[0][0] in [physical for physical, _ in seen(data, at)]


@given(text=st.integers(1, 2000), lowmem=st.sampled_from([64, 128, 192, 256, 768]))
def test_room_in_what_linux_sets_up(text: int, lowmem: int) -> None:
    """Any size of text, in units of 128 KiB, in any amount of memory that data BATs map."""
    code = covered(0, text * UNIT, 4, doubled=True)
    assume(len(code) == 4)
    data = covered(0, lowmem * MIB, 4, doubled=False)
    found = with_room(code, data)
    end = (text * UNIT - 1 | (1 << (text * UNIT - 1).bit_length() - 2) - 1) + 1
    if found is None:  # only where no data BAT reaches
        assert end > lowmem * MIB or lowmem * MIB < text * UNIT * 2
        return
    assert sum(upper == 0 for upper, _ in found) >= 1
    assert_sound(code, found, data)


blocks = st.tuples(
    st.integers(0, 31), st.sampled_from([1, 2, 4]), st.sampled_from([0, 0, 0, 8]), st.sampled_from([2, 2, 3])
).map(
    lambda t: bat(
        BASE + t[0] // t[1] * t[1] * UNIT,
        t[1] * UNIT,
        bits=t[3],
        physical=(t[0] // t[1] * t[1] + t[2]) * UNIT,
    )
)


@given(st.lists(blocks, min_size=4, max_size=4), st.lists(blocks, max_size=4))
def test_room_in_anything(code: list[Pair], data: list[Pair]) -> None:
    starts = [(upper & 0xFFFE_0000, ((upper >> 2 & 0x7FF) + 1) * UNIT) for upper, _ in code]
    assume(all(a[0] + a[1] <= b[0] or b[0] + b[1] <= a[0] for i, a in enumerate(starts) for b in starts[:i]))
    found = with_room(code, data)
    if found is not None:
        assert_sound(code, found, data)


TEXT = [bat(BASE, 4 * MIB), bat(BASE + 4 * MIB, 2 * MIB), bat(BASE + 6 * MIB, 256 * KIB)]
FULL = [*TEXT, bat(BASE + 6 * MIB + 256 * KIB, 128 * KIB)]
DATA = [bat(BASE, 8 * MIB), bat(BASE + 8 * MIB, 4 * MIB), *[bat(BASE + n * MIB, 4 * MIB) for n in (12, 16)]]


def test_the_least_is_added() -> None:
    assert with_room(FULL, DATA) == [*TEXT[:2], bat(BASE + 6 * MIB, 512 * KIB), (0, 0)]


@pytest.mark.parametrize(
    "data",
    [
        [],
        [bat(BASE, 4 * MIB)],  # not all of it
        [bat(BASE, 8 * MIB, physical=16 * MIB)],  # elsewhere
        [bat(BASE, 8 * MIB, bits=READ_WRITE | GUARDED)],  # a device's
    ],
)
def test_none_where_something_else_may_lie_between(data: list[Pair]) -> None:
    assert with_room(FULL, data) is None


def test_none_for_processes() -> None:
    user = [(upper | 1, lower) for upper, lower in FULL]
    assert with_room(user, DATA) is None


def test_none_where_blocks_differ() -> None:
    differing = [
        (upper, lower & ~0x7F | bits) for (upper, lower), bits in zip(FULL, (2, 3, 0x12, 0x13), strict=True)
    ]
    assert with_room(differing, DATA) is None


@pytest.fixture
def state() -> np.void:
    made = np.zeros(1, STATE)
    made["sdr1"] = 0x20000
    made["ibat"], made["dbat"] = FULL, DATA
    found: np.void = made[0]
    return found


def obey(state: np.void, commands: list[Command]) -> np.void:
    """Return the CPU's state after commands about BATs, as the stub obeys them."""
    after = state.copy()
    for command in commands:
        assert command.op is Op.BAT
        kind, number = ("ibat", "dbat")[command.a % 8 // 4], command.a % 4
        assert command.a >= 8 or not after[kind][number][0] & 3 or after[kind][number][0] == command.b
        after[kind][number] = (command.b, command.c)
    return after


def test_the_arena_gets_it_and_gives_it_back(state: np.void, tmp_path: Path) -> None:
    taken = free_entries(PLAN, state, paged=True)
    assert taken == (BlockEntries(None, None), BlockEntries(3, None))
    mapped = obey(state, [*make_room(PLAN, state), *mapping(PLAN, taken)])
    pairs = [tuple(pair) for pair in mapped["ibat"].tolist()]
    assert seen(pairs, 0xBF12_0000) == [(0x1112_0000, 0x212)]
    assert seen(pairs, BASE + 6 * MIB + 384 * KIB) == [(6 * MIB + 384 * KIB, 0x202)]
    assert free_entries(PLAN, mapped, paged=True) == taken  # what is the arena's already stays so
    assert make_room(PLAN, mapped) == []
    before = Before(tmp_path)
    before.keep_state(state.tobytes())
    after = obey(mapped, unmapping(PLAN, taken, mapped, FakeRam(0), before))
    assert after == state


def test_what_shows_lent_memory_is_left_to_the_kernel(state: np.void) -> None:
    """Its data stay where the kernel has them: only where code is fetched is an entry made free and taken."""
    lent = ArenaPlan(8 * MIB, 4 * MIB, BASE + 8 * MIB, near=Window(BASE - 2 * MIB, BASE), linear=True)
    state["dbat"][3] = 0
    assert shown(lent, state) == Linear.BLOCK
    taken = free_entries(lent, state)
    assert taken == (BlockEntries(None, None), BlockEntries(3, 3))
    made = obey(state, make_room(lent, state))
    assert not made["ibat"][3].any()
    assert (made["dbat"] == state["dbat"]).all()
    mapped = obey(made, mapping(lent, taken))
    assert shown(lent, mapped) == Linear.BLOCK
    at = lent.virtual + 3 * MIB
    assert seen(mapped["dbat"].tolist(), at) == seen(state["dbat"].tolist(), at) != []


def test_none_is_made_where_one_is_free(state: np.void) -> None:
    state["ibat"][1] = 0, 0
    assert free_entries(PLAN, state, paged=True)[1].instruction == 1
    assert make_room(PLAN, state) == []


def test_a_kernel_that_leaves_none_is_refused(state: np.void) -> None:
    state["dbat"] = 0
    with pytest.raises(Refused, match="all instruction BATs"):
        free_entries(PLAN, state, paged=True)


def test_two_blocks_of_code_get_two(state: np.void) -> None:
    """As on Darwin, whose springboards lead into all of the arena."""
    both = replace(PLAN, springboards=Window(0x1000, 0x2000))
    state["dbat"][2:] = 0
    taken = free_entries(both, state)
    assert len({pair.instruction for pair in taken} - {0, None}) == 2
    pairs = [tuple(pair) for pair in obey(state, make_room(both, state))["ibat"].tolist()]
    assert_sound(FULL, pairs, DATA[:2])
