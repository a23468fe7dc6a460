"""How deep a frame is, and where LR is, at each instruction of functions as compilers make them."""

from __future__ import annotations

import pytest

from kgdbpatch.analysis.unwind import Unwinding, unwinding
from kgdbpatch.isa import encode
from kgdbpatch.isa.decode import Instruction, decode

ENTRY = 0x1000
BLR, BCTR, MR_R11_R1, MR_R1_R11, BEQ_8 = 0x4E80_0020, 0x4E80_0420, 0x7C2B_0B78, 0x7D61_5B78, 0x4182_0008
IN_LR = Unwinding(0, None, True)

USUAL = [
    encode.mflr(0),
    encode.stw(0, 4, 1),
    encode.stwu(1, -32, 1),
    encode.bl(ENTRY + 12, 0x8000),
    encode.lwz(0, 36, 1),
    encode.mtlr(0),
    encode.addi(1, 1, 32),
    BLR,
]
# what runs on another stack, whose address is in a variable
ELSEWHERE = [
    encode.mflr(0),
    encode.stwu(1, -32, 1),
    encode.stw(0, 36, 1),
    encode.lwz(31, 0x100, 9),
    encode.stwu(1, 8176, 31),
    0x7FE1_FB78,  # mr r1,r31
    encode.bl(ENTRY + 24, 0x8000),
    encode.lwz(1, 0, 1),
    encode.lwz(0, 36, 1),
    encode.mtlr(0),
    encode.addi(1, 1, 32),
    BLR,
]
# the frame first, a leaf's way out before it, the stack pointer kept in r11
SHRUNK = [
    BEQ_8,  # over the early end
    BLR,
    MR_R11_R1,
    encode.stwu(1, -16, 1),
    encode.mflr(0),
    encode.stw(0, 4, 11),
    encode.bl(ENTRY + 24, 0x8000),
    encode.lwz(11, 0, 1),
    encode.lwz(0, 4, 11),
    encode.mtlr(0),
    MR_R1_R11,
    BLR,
]


def at(words: list[int], index: int, entry: int = ENTRY) -> Unwinding | None:
    def instruction(address: int) -> Instruction | None:
        number = (address - ENTRY) // 4
        return decode(words[number], address) if 0 <= number < len(words) else None

    found = unwinding(instruction, entry, ENTRY + 4 * index)
    return found and found._replace(held=None)


def test_the_usual_frame() -> None:
    assert at(USUAL, 0) == IN_LR
    assert at(USUAL, 2) == Unwinding(0, 4, True)
    assert at(USUAL, 3) == Unwinding(32, 4, True)
    assert at(USUAL, 4) == Unwinding(32, 4, False)  # behind the call
    assert at(USUAL, 6) == Unwinding(32, 4, True)
    assert at(USUAL, 7) == Unwinding(0, 4, True)


def test_a_function_that_changes_stacks_and_comes_back() -> None:
    assert at(ELSEWHERE, 5) == Unwinding(32, 4, True)
    assert at(ELSEWHERE, 6) == Unwinding(None, 4, True, behind=32)
    assert at(ELSEWHERE, 7) == Unwinding(None, 4, False, behind=32)
    assert at(ELSEWHERE, 8) == Unwinding(32, 4, False)
    assert at(ELSEWHERE, 11) == Unwinding(0, 4, True)


def test_a_frame_on_one_way_only() -> None:
    assert at(SHRUNK, 1) == IN_LR
    assert at(SHRUNK, 2) == IN_LR
    assert at(SHRUNK, 6) == Unwinding(16, 4, True)
    assert at(SHRUNK, 7) == Unwinding(16, 4, False)
    assert at(SHRUNK, 10) == Unwinding(16, 4, True)
    assert at(SHRUNK, 11) == Unwinding(0, 4, True)


def test_a_register_that_holds_the_return_address() -> None:
    words = [encode.mflr(12), encode.bl(ENTRY + 4, 0x8000), encode.mflr(31), BLR]

    def instruction(address: int) -> Instruction | None:
        number = (address - ENTRY) // 4
        return decode(words[number], address) if 0 <= number < len(words) else None

    assert unwinding(instruction, ENTRY, ENTRY + 4) == Unwinding(0, None, True, 12)
    assert unwinding(instruction, ENTRY, ENTRY + 8) == Unwinding(0, None, False, None)


@pytest.mark.parametrize("index", [5, 6])
def test_what_only_a_table_leads_to_has_the_usual_frame(index: int) -> None:
    words = [*USUAL[:3], BCTR, BLR, encode.nop(), encode.nop()]
    assert at(words, index) == Unwinding(32, 4, True)


def test_code_that_nothing_leads_to() -> None:
    assert at([BLR, encode.nop()], 1) is None
