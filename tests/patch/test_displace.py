"""Moved instructions, judged by decoding what was made of them (their effect is run in tests/guest)."""

from __future__ import annotations

import pytest

from kgdbpatch.errors import Refused
from kgdbpatch.isa import encode
from kgdbpatch.isa.decode import decode
from kgdbpatch.patch.displace import displace, jump

SITE, BODY, FAR = 0xC000_1000, 0xBF00_0100, 0x1500_0000
FREE = frozenset({"r11", "r12", "ctr", "lr"})


def test_plain_instruction_moves_verbatim():
    moved = displace(decode(encode.addi(3, 4, 5), SITE), BODY, frozenset())
    assert moved.words == (encode.addi(3, 4, 5),)
    assert moved.falls_through


@pytest.mark.parametrize("target", [SITE - 0x100, SITE + 0x4000, SITE])
def test_branch_reaches_its_old_target(target: int):
    moved = displace(decode(encode.b(SITE, target), SITE), BODY, frozenset())
    assert [encode.branch_target(BODY, word) for word in moved.words] == [target]
    assert not moved.falls_through


def test_call_leaves_the_original_return_address():
    moved = displace(decode(encode.bl(SITE, SITE + 0x400), SITE), BODY, FREE)
    high, low, to_lr, branch = moved.words
    register = high >> 21 & 31
    assert (high, low) == tuple(encode.load_address(register, SITE + 4))
    assert to_lr == encode.mtlr(register)
    assert encode.branch_target(BODY + 12, branch) == SITE + 0x400
    assert branch & 1 == 0, "the moved branch must not link"


def test_call_without_a_free_register_is_refused():
    with pytest.raises(Refused) as refused:
        displace(decode(encode.bl(SITE, SITE + 0x400), SITE), BODY, frozenset())
    assert refused.value.rule == "registers"
    assert refused.value.address == SITE


@pytest.mark.parametrize("distance", [8, -0x8000, 0x7FFC, 0])
def test_conditional_branch_goes_both_ways(distance: int):
    word = encode.bc(12, 2, SITE, SITE + distance)
    moved = displace(decode(word, SITE), BODY, frozenset())
    taken, not_taken, jumped = moved.words
    assert taken >> 16 == word >> 16, "condition kept"
    assert taken & 0xFFFF == 8
    assert encode.branch_target(BODY + 4, not_taken) == BODY + 12
    assert encode.branch_target(BODY + 8, jumped) == SITE + distance
    assert moved.falls_through


@pytest.mark.parametrize("word", [0x4400_0002, 0x4C00_0064, 0x7FE0_0008, 0x0FE0_0000])  # sc rfi trap twui
def test_instructions_whose_address_matters_are_refused(word: int):
    with pytest.raises(Refused) as refused:
        displace(decode(word, SITE), BODY, FREE)
    assert refused.value.rule == "displaced"


def test_return_ends_the_body():
    assert not displace(decode(encode.blr(), SITE), BODY, FREE).falls_through
    assert displace(decode(0x4D82_0020, SITE), BODY, FREE).falls_through  # beqlr


def test_far_jump_takes_two_free_registers():
    words = jump(SITE, FAR, FREE)
    assert words is not None
    register = words[0] >> 21 & 31
    assert words == [*encode.load_address(register, FAR), encode.mtctr(register), encode.bctr()]
    assert jump(SITE, FAR, frozenset({"r12"})) is None
    assert jump(SITE, FAR, frozenset({"ctr", "lr"})) is None
