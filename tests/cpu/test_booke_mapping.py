"""Which entries of TLB1 map an arena: their sizes, where they may be, and where there are too few."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from analysis.code import link, needs_as
from component.fake import FakeRam
from hypothesis import given
from hypothesis import strategies as st

from kgdbpatch.component.layout import BlockEntries, Op
from kgdbpatch.component.uninstall import Before
from kgdbpatch.cpu.booke import E500
from kgdbpatch.cpu.booke.msr import CE, DS, IS
from kgdbpatch.cpu.booke.state import STATE
from kgdbpatch.cpu.booke.tlb import GIVEN_BACK, Entry, entries, largest, pieces
from kgdbpatch.cpu.msr import EE, ME, PR
from kgdbpatch.errors import Refused
from kgdbpatch.personality import personality
from kgdbpatch.personality.base import ArenaPlan, Window

MIB = 1 << 20
PLAN = ArenaPlan(288 * MIB, 32 * MIB, 0xFC00_0000, None, Window(0xFE00_0000, 0xFF00_0000))
CPU = E500()


def state(**given: Entry) -> np.void:
    """Return a state in which entries of TLB1 are valid: ``e3=Entry(...)``."""
    found = np.zeros(1, STATE)
    found["tlb1cfg"] = 0x101C_C010  # an e500v2's: pages up to 4 GiB
    for name, page in given.items():
        found["tlb1"][0][int(name[1:])][:3] = page.registers
    one: np.void = found[0]
    return one


@given(st.integers(1, 1 << 14), st.integers(0, 1 << 18), st.integers(0, 1 << 18))
def test_pages_cover_a_range_and_nothing_else(pages: int, virtual: int, physical: int) -> None:
    found = list(pieces(virtual << 12, physical << 12, pages << 12))
    at = virtual << 12
    for page in found:
        assert page.virtual == at
        assert page.physical - page.virtual == (physical - virtual) << 12
        assert page.size in {4096 << 2 * n for n in range(9)}
        assert page.virtual % page.size == page.physical % page.size == 0
        at += page.size
    assert at == virtual + pages << 12


@given(st.sampled_from([4096 << 2 * n for n in range(10)]), st.integers(0, 3), st.booleans())
def test_an_entry_is_read_as_it_was_written(size: int, place: int, other: bool) -> None:
    page = Entry(place << 30 & -size, 0x4000_0000 & -size, size, other)
    assert entries(state(e5=page)) == [None] * 5 + [page] + [None] * 10


def test_the_largest_page_is_what_the_cpu_says() -> None:
    assert largest(0x101C_C010) == 1 << 30  # as far as is asked for
    assert largest(0x1019_C010) == 256 * MIB  # an e500v1


def test_the_highest_entries_in_a_row_are_taken() -> None:
    kernel = Entry(0xC000_0000, 0, 256 * MIB)
    window = Entry(0, 0, 1 << 30, other_space=True)
    known = state(e0=kernel, e15=window)
    assert CPU.free_entries(PLAN, known) == (BlockEntries(13, 13), BlockEntries(12, 12))
    assert CPU.free_entries(PLAN, state(e0=kernel, e15=window, e13=kernel)) == (
        BlockEntries(11, 11),
        BlockEntries(14, 14),
    )
    commands = CPU.mapping(PLAN, (BlockEntries(13, 13), BlockEntries(12, 12)))
    assert {command.op for command in commands} == {Op.TLB}
    assert [command.c & 0x3F for command in commands] == [13, 14, 12]


def test_what_was_given_to_the_arena_is_taken_again() -> None:
    known = state(
        e3=Entry(0xFC00_0000, 288 * MIB, 16 * MIB),
        e4=Entry(0xFD00_0000, 304 * MIB, 16 * MIB),
        e6=Entry(0xFE00_0000, 304 * MIB, 16 * MIB),
    )
    assert CPU.free_entries(PLAN, known) == (BlockEntries(3, 3), BlockEntries(6, 6))
    CPU.check_unmapped(PLAN, known, FakeRam(0))


def test_too_few_entries_are_refused() -> None:
    every = {f"e{n}": Entry(0xC000_0000 + n * MIB, n * MIB, MIB) for n in range(16)}
    for left in ((), (7,), (3, 9, 15)):  # two are needed side by side
        known = state(**{name: page for name, page in every.items() if int(name[1:]) not in left})
        with pytest.raises(Refused, match="leaves no 2 entries of TLB1 in a row") as refused:
            CPU.free_entries(PLAN, known)
        assert refused.value.rule == "mapping"


@pytest.mark.parametrize(
    ("page", "taken"),
    [
        (Entry(0xF000_0000, 0, 256 * MIB), True),
        (Entry(0xFDFF_F000, 0, 4096), True),
        (Entry(0xFE00_0000, 0, 16 * MIB), True),
        (Entry(0xFF00_0000, 0, 16 * MIB), False),
        (Entry(0xC000_0000, 0, 256 * MIB), False),
        (Entry(0xC000_0000, 0, 1 << 30, other_space=True), False),
    ],
)
def test_wired_pages_of_the_kernel(page: Entry, taken: bool) -> None:
    if taken:
        with pytest.raises(Refused, match=f"TLB1 of the kernel maps 0x{page.virtual:08x}"):
            CPU.check_unmapped(PLAN, state(e1=page), FakeRam(0))
    else:
        CPU.check_unmapped(PLAN, state(e1=page), FakeRam(0))


@pytest.mark.parametrize(
    "wrong",
    [
        replace(PLAN, virtual=0xFC10_0000),  # would take pages of 1 MiB on both sides
        replace(PLAN, springboards=Window(0x1000, 0x2000)),
        replace(PLAN, virtual=0xFF00_0000, near=None),
    ],
)
def test_what_cannot_be_mapped(wrong: ArenaPlan) -> None:
    CPU.check_blocks(PLAN)
    with pytest.raises(Refused) as refused:
        CPU.check_blocks(wrong)
    assert refused.value.rule == "mapping"


def test_entries_get_back_what_was_in_them(tmp_path: Path) -> None:
    before = Before(tmp_path)
    theirs = Entry(0xE000_0000, 0x4000_0000, MIB)
    before.keep_state(np.array([state(e12=theirs)]).tobytes())
    commands = CPU.unmapping(PLAN, (BlockEntries(13, 13), BlockEntries(12, 12)), state(), FakeRam(0), before)
    mas1, mas2, mas3 = theirs.registers
    last = commands[-1]
    assert (last.a, last.b, last.c) == (mas2, mas3, mas1 | GIVEN_BACK | 12)
    assert [command.c for command in commands[:2]] == [GIVEN_BACK | 13, GIVEN_BACK | 14]


def test_what_a_saved_status_register_looks_like() -> None:
    words = {
        EE | CE | ME: True,
        CE | ME | 2: True,  # as Linux saves it where interrupts are off
        EE | CE | ME | PR: False,
        CE | IS | DS: False,  # in the component
        0x2000: False,
        0xC000_1234: False,
        0: False,
    }
    assert CPU.kernel_status(np.array([*words], np.uint32)).tolist() == [*words.values()]
    assert CPU.translated(CE)
    assert not CPU.translated(CE | IS | DS)


@needs_as
@pytest.mark.parametrize(
    ("text", "rest", "found"), [(0xF00, 0x100, True), (0x1000, 0, False), (0xFE0, 0x20, False)]
)
def test_unused_words_are_looked_for_behind_the_code(
    tmp_path: Path, text: int, rest: int, found: bool
) -> None:
    script = tmp_path / "script"
    script.write_text(
        "SECTIONS { . = 0xc0000000; .text : AT(0) { *(.text) } . = 0xc0001000;"
        " .data : AT(0x1000) { *(.data) } }"
    )
    code = f" .globl f\n .type f,@function\nf: blr\n .space {text - 4}\n .size f,.-f\n"
    code += " .data\n .long 1\n"
    image, linux = link(code, tmp_path, "-T", script), personality("linux")
    assert CPU.gates(linux, image, 64) == ([0xC000_1000 - 64] if found else [])
