"""Moved instructions, judged by decoding what was made of them (test_matrix runs them)."""

from __future__ import annotations

import pytest

from kgdbpatch.cpu.ppc6xx import Ppc6xx
from kgdbpatch.errors import Refused
from kgdbpatch.isa import encode
from kgdbpatch.isa.abi import SYSV
from kgdbpatch.isa.decode import decode
from kgdbpatch.patch.displace import displace
from kgdbpatch.patch.reach import jump
from kgdbpatch.patch.site import Site

SITE, BODY, FAR = 0xC000_1000, 0xBF00_0100, 0x1500_0000
FREE = frozenset({"r11", "r12", "ctr", "lr"})


def move(word: int, free: frozenset[str] = FREE, after: frozenset[str] | None = None) -> list[int]:
    here = decode(word, SITE)
    after = free if after is None else after
    return displace(Site(here, free, after, SYSV, remaps=Ppc6xx().remaps(here)), BODY)


def goes(words: list[int], index: int) -> int | None:
    return encode.branch_target(BODY + 4 * index, words[index])


def test_plain_instruction_moves_verbatim() -> None:
    moved = move(encode.addi(3, 4, 5), frozenset())
    assert moved[0] == encode.addi(3, 4, 5)
    assert goes(moved, 1) == SITE + 4


@pytest.mark.parametrize("target", [SITE - 0x100, SITE + 0x4000, SITE])
def test_branch_reaches_its_old_target(target: int) -> None:
    moved = move(encode.b(SITE, target), frozenset())
    assert [goes(moved, 0), len(moved)] == [target, 1]


def test_call_leaves_the_original_return_address() -> None:
    moved = move(encode.bl(SITE, SITE + 0x400))
    high, low, to_lr, branch = moved
    register = high >> 21 & 31
    assert [high, low] == encode.load_address(register, SITE + 4)
    assert to_lr == encode.mtlr(register)
    assert goes(moved, 3) == SITE + 0x400
    assert branch & 1 == 0, "the moved branch must not link"


@pytest.mark.parametrize("distance", [8, -0x8000, 0x7FFC, 0])
def test_conditional_branch_goes_both_ways(distance: int) -> None:
    word = encode.bc(12, 2, SITE, SITE + distance)
    moved = move(word, frozenset())
    assert moved[0] >> 16 == word >> 16, "condition kept"
    assert moved[0] & 0xFFFF == 8
    assert goes(moved, 1) == SITE + 4
    assert goes(moved, 2) == SITE + distance


@pytest.mark.parametrize(
    ("word", "rule"),
    [
        (0x7FE0_0008, "trap"),
        (0x0FE0_0000, "trap"),  # twui
        (0x7C70_83A6, "mapping"),  # mtibatu 0,r3
        (0x7C79_03A6, "mapping"),  # mtsdr1 r3
        (0x4E80_0021, "registers"),  # blrl with CTR live
    ],
)
def test_what_has_its_effect_at_its_own_place_is_refused(word: int, rule: str) -> None:
    with pytest.raises(Refused) as refused:
        move(word, FREE - {"ctr"})
    assert refused.value.rule == rule
    assert refused.value.address == SITE


def test_return_ends_the_body() -> None:
    assert move(encode.blr()) == [encode.blr()]
    moved = move(0x4D82_0020)  # beqlr
    assert moved[0] == 0x4D82_0020
    assert goes(moved, 1) == SITE + 4
    assert move(0x4C00_0064) == [0x4C00_0064]  # rfi


def test_far_jump_takes_two_free_registers() -> None:
    words = jump(SITE, FAR, FREE)
    assert words is not None
    register = words[0] >> 21 & 31
    assert words == [*encode.load_address(register, FAR), encode.mtctr(register), encode.bctr()]
    assert jump(SITE, FAR, frozenset({"r12"})) is None
    assert jump(SITE, FAR, frozenset({"ctr", "lr"})) is None
