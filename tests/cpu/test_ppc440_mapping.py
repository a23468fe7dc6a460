"""Which entries of the 440's TLB map an arena: those that the kernel has given up, in sizes that exist."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from component.fake import FakeRam
from hypothesis import given
from hypothesis import strategies as st

from kgdbpatch.component.layout import BlockEntries, Op
from kgdbpatch.cpu.booke import Ppc440
from kgdbpatch.cpu.booke.state import STATE_440
from kgdbpatch.cpu.booke.tlb import Entry, Entry440, pieces
from kgdbpatch.cpu.booke.window_440 import RESERVED
from kgdbpatch.errors import Refused
from kgdbpatch.personality.base import ArenaPlan, Window

MIB = 1 << 20
SIZES = [1024 << 2 * size for size in (1, 2, 3, 4, 5, 7, 9)]  # PPC440 core user's manual: no 4 and no 64 MiB
PLAN = ArenaPlan(256 * MIB, 32 * MIB, 0xFC00_0000, None, Window(0xFE00_0000, 0xFF00_0000))
CPU = Ppc440()


def state(**given: Entry440) -> np.void:
    """Return a state with valid entries (``e3=Entry440(...)``); the kernel filled those up to 62."""
    found = np.zeros(1, STATE_440)
    found["last"], found["lowered"] = 62, 1
    for name, page in given.items():
        found["tlb"][0][int(name[1:])][:3] = page.registers
    one: np.void = found[0]
    return one


@given(st.integers(1, 1 << 14), st.integers(0, 1 << 18), st.integers(0, 1 << 18))
def test_pages_cover_a_range_and_nothing_else(pages: int, virtual: int, physical: int) -> None:
    at = virtual << 12
    for page in pieces(virtual << 12, physical << 12, pages << 12, Entry440):
        assert page.virtual == at
        assert page.physical - page.virtual == (physical - virtual) << 12
        assert page.size in SIZES
        assert page.virtual % page.size == page.physical % page.size == 0
        at += page.size
    assert at == virtual + pages << 12


@given(st.sampled_from(SIZES), st.integers(0, 3), st.booleans())
def test_an_entry_is_read_as_it_was_written(size: int, place: int, other: bool) -> None:
    page = Entry440(place << 30 & -size, 0x4000_0000 & -size, size, other)
    assert CPU.wired(state(e60=page)) == dict.fromkeys(range(63 - RESERVED, 64)) | {60: page}


def test_memory_above_4_gib_is_told_as_such() -> None:
    words = np.array([0xE000_0290, 0xD000_0001, 7, 0], np.uint32)
    assert Entry440.read(words) == Entry(0xE000_0000, 0x1_D000_0000, 256 * MIB)


def test_only_what_the_kernel_has_given_up_is_taken() -> None:
    kernel, place = Entry440(0xC000_0000, 0, 256 * MIB), Entry440(0, 0, 256 * MIB, other_space=True)
    process = Entry440(0xFC00_0000, 64 * MIB, 4096)  # of the kernel's cache: it comes and goes
    known = state(e63=kernel, e62=place, e52=process)
    CPU.check_unmapped(PLAN, known, FakeRam(0))
    assert CPU.free_entries(PLAN, known) == (BlockEntries(60, 60), BlockEntries(59, 59))
    commands = CPU.mapping(PLAN, (BlockEntries(60, 60), BlockEntries(59, 59)))
    assert {command.op for command in commands} == {Op.TLB}
    assert [command.c >> 16 for command in commands] == [60, 61, 59]
    assert CPU.free_entries(PLAN, state(e63=kernel, e62=place, **mapped())) == (
        BlockEntries(57, 57),
        BlockEntries(56, 56),
    )


def mapped() -> dict[str, Entry440]:
    """Return the arena's own entries."""
    return {
        "e57": Entry440(0xFC00_0000, 256 * MIB, 16 * MIB),
        "e58": Entry440(0xFD00_0000, 272 * MIB, 16 * MIB),
        "e56": Entry440(0xFE00_0000, 272 * MIB, 16 * MIB),
    }


def test_memory_that_the_kernel_maps_for_good_is_not_taken() -> None:
    for page in (Entry440(0xF000_0000, 0, 256 * MIB), Entry440(0xFE00_0000, 0x8000_0000, 16 * MIB)):
        with pytest.raises(Refused, match=f"entry of the TLB of the kernel maps 0x{page.virtual:08x}"):
            CPU.check_unmapped(PLAN, state(e63=page), FakeRam(0))


def test_an_arena_that_takes_more_entries_than_there_are_is_refused() -> None:
    CPU.check_blocks(PLAN)
    with pytest.raises(Refused, match="would take 33 entries of the TLB"):
        CPU.check_blocks(replace(PLAN, virtual=0xFC10_0000, near=Window(0xFE10_0000, 0xFE20_0000)))
    full = {f"e{number}": Entry440(number << 20, number << 20, MIB) for number in range(63 - RESERVED, 64)}
    with pytest.raises(Refused, match="leaves no 2 entries of the TLB in a row"):
        CPU.free_entries(PLAN, state(**full))


def test_what_is_given_back_is_empty() -> None:
    command = Entry440.none(60)
    assert (command.op, command.a, command.b, command.c) == (Op.TLB, 0, 0, 0x80_0000 | 60 << 16)
    assert CPU.given_back(60, state(e60=Entry440(0, 0, MIB))) == command
