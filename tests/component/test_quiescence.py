"""The scan for interrupted contexts, against a plain search."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from kgdbpatch.component.quiescence import interrupted_contexts
from kgdbpatch.cpu.ppc6xx.msr import kernel_status

MSR = 0x9032
RANGES = [(0x1011_0000, 0x1011_0080), (0x1000, 0x1010), (0x1011_0200, 0x1011_0204)]


def scan(words: list[int]) -> list[tuple[int, int]]:
    memory = np.array(words, ">u4").view(np.uint8)
    return interrupted_contexts([(0x8000, memory)], RANGES, kernel_status)


def behind(words: list[int]) -> list[int]:
    """Return the words that may be a pc's MSR: the next one, or the one behind an upper half of 0."""
    return words[: 2 if words[:1] == [0] else 1]


def in_kernel(msr: int) -> bool:
    return msr & 0x4030 == 0x30 and (msr & 0x8000 != 0 or msr & 0x1002 == 0x1002) and not msr & ~0x207FF77


def plain(words: list[int]) -> list[tuple[int, int]]:
    return [
        (0x8000 + 4 * index, pc)
        for index, pc in enumerate(words)
        if any(low <= pc < high for low, high in RANGES)
        and not pc & 3
        and any(in_kernel(msr) for msr in behind(words[index + 1 :]))
    ]


interesting = st.sampled_from(
    [
        *(0, 0xFFC, 0x1000, 0x100C, 0x1010),
        *(0x1011_0000, 0x1011_007C, 0x1011_0080, 0x1011_0200, 0x1011_0204),
        *(MSR, MSR | 0x4000, MSR | 0x0200_2000, 0x1002, 0x1030, 0x8030, 0x32, 0xFFFF_FFFF),
    ]
)


@given(st.lists(interesting | st.integers(0, 0xFFFF_FFFF), max_size=64).map(lambda w: w + [0] * (len(w) % 2)))
def test_finds_what_a_plain_search_finds(words: list[int]) -> None:
    assert sorted(scan(words)) == plain(words)


def test_pc_and_msr_may_lie_across_a_chunk() -> None:
    words = np.zeros((1 << 22) + 2, ">u4")
    words[(1 << 22) - 1], words[1 << 22] = 0x1011_0004, MSR
    found = interrupted_contexts([(0, words.view(np.uint8))], RANGES, kernel_status)
    assert found == [(4 * ((1 << 22) - 1), 0x1011_0004)]


def test_pc_without_an_msr_behind_it_is_no_context() -> None:
    assert scan([0x1011_0004, 0x1234_5678, 0x1011_0004, 0x0000_D032]) == []


def test_a_thread_that_uses_altivec_is_found() -> None:
    assert scan([0x1011_0004, 0x0200_B032]) == [(0x8000, 0x1011_0004)]


def test_registers_saved_as_64_bits_are_found() -> None:
    assert scan([0, 0x1011_0004, 0, 0x9032]) == [(0x8004, 0x1011_0004)]


def test_a_kernel_without_machine_checks_or_ri_is_found() -> None:
    assert len(scan([0x1011_0004, 0x8032, 0x1011_0008, 0x8030])) == 2
    assert scan([0x1011_0004, 0x1030]) == []  # neither RI nor EE: nobody can interrupt it
    assert scan([0x1011_0004, 0x0F72]) == []  # a size: the address before it is one of a page
