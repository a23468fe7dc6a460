"""Places that must not be patched."""

from __future__ import annotations

import pytest

from kgdbpatch.analysis.hazards import reservation_window, translation, untranslated
from kgdbpatch.cpu.ppc6xx.msr import KERNEL_SPACE

from .code import BASE, assemble, needs_as

pytestmark = needs_as


def _indices(addresses: set[int]) -> list[int]:
    return sorted((address - BASE) // 4 for address in addresses)


def test_a_reservation_window_ends_with_its_stwcx() -> None:
    words = assemble("nop\n1: lwarx r5,0,r3\n add r5,r5,r4\n stwcx. r5,0,r3\n bne- 1b\n blr")
    assert _indices(reservation_window(words, BASE)) == [2, 3]


def test_the_way_out_of_a_compare_and_swap_is_no_window() -> None:
    words = assemble(
        "1: lwarx r5,0,r3\n cmpw r5,r4\n bne- 2f\n stwcx. r6,0,r3\n bne- 1b\n isync\n2: mr r3,r5\n blr"
    )
    assert _indices(reservation_window(words, BASE)) == [1, 2, 3]


def test_a_window_over_two_branches() -> None:
    words = assemble(
        "1: lwarx r5,0,r3\n cmpwi r5,0\n beq 2f\n li r6,1\n b 3f\n2: li r6,2\n"
        "3: stwcx. r6,0,r3\n bne- 1b\n blr"
    )
    assert _indices(reservation_window(words, BASE)) == [1, 2, 3, 4, 5, 6]


def test_an_lwarx_without_stwcx_counts_for_64_instructions() -> None:
    words = assemble("lwarx r5,0,r3\n" + "nop\n" * 100 + "blr")
    assert _indices(reservation_window(words, BASE)) == list(range(1, 65))


def test_a_stwcx_alone_is_no_window() -> None:
    assert reservation_window(assemble("stwcx. r0,0,r1\n blr"), BASE) == set()


OFF_AND_ON = """
    mfmsr r5
    rlwinm r6,r5,0,28,25
    mtmsr r6
    isync
    lwz r3,0(r3)
    {}
    isync
    blr
"""


@pytest.mark.parametrize("back", ["mtmsr r5", "ori r6,r6,0x30\n mtmsr r6"])
def test_translation_is_off_until_it_is_put_back(back: str) -> None:
    words = assemble(OFF_AND_ON.format(back))
    assert _indices(translation(words, BASE, KERNEL_SPACE)[0]) == [*range(3, 6 + back.count("\n"))]


@pytest.mark.parametrize(
    "value",
    ["rlwinm r6,r5,0,17,15", "ori r6,r5,0x8000", "mr r6,r5", "lwz r6,0(r3)", "andi. r6,r5,0x7fff"],
    ids=["clear-ee", "set-ee", "same", "loaded", "masked-low"],
)
def test_interrupt_masking_keeps_translation(value: str) -> None:
    words = assemble(f"mfmsr r5\n {value}\n mtmsr r6\n lwz r3,0(r3)\n blr")
    assert translation(words, BASE, KERNEL_SPACE)[0] == set()


def test_an_unknown_msr_counts_as_off_where_rfi_is() -> None:
    words = assemble("lwz r6,0(r3)\n mtmsr r6\n isync\n rfi")
    assert _indices(translation(words, BASE, KERNEL_SPACE)[0]) == [2, 3]


def test_the_value_is_followed_over_branches() -> None:
    words = assemble("mfmsr r5\n cmpwi r3,0\n beq 1f\n rlwinm r5,r5,0,28,25\n1: mtmsr r5\n blr")
    assert translation(words, BASE, KERNEL_SPACE)[0] == set()  # one of two ways: unknown, and no rfi here
    words = assemble("mfmsr r5\n cmpwi r3,0\n beq 1f\n nop\n1: rlwinm r5,r5,0,27,25\n mtmsr r5\n blr")
    assert _indices(translation(words, BASE, KERNEL_SPACE)[0]) == [6]


def test_untranslated_code_ends_at_rfi_and_at_returns() -> None:
    words = assemble("mtspr 272,r1\n bl 1f\n b 2f\n nop\n1: blr\n2: beq 3f\n rfi\n nop\n3: rfi\n nop")
    assert _indices(untranslated([(BASE, words)], [BASE], KERNEL_SPACE)) == [0, 1, 2, 4, 5, 6, 8]


def test_untranslated_code_ends_where_translation_comes_on() -> None:
    words = assemble("mfmsr r3\n ori r3,r3,0x30\n mtmsr r3\n isync\n blr")
    assert _indices(untranslated([(BASE, words)], [BASE], KERNEL_SPACE)) == [0, 1, 2]
    words = assemble("mfmsr r3\n ori r3,r3,0x10\n mtmsr r3\n isync\n blr")
    assert _indices(untranslated([(BASE, words)], [BASE], KERNEL_SPACE)) == [0, 1, 2, 3, 4]


def test_a_vector_outside_the_image_reaches_nothing() -> None:
    assert untranslated([(BASE, assemble("blr"))], [0x100], KERNEL_SPACE) == set()
