"""Plans: what is saved, where control goes, and how the site is entered."""

from __future__ import annotations

from collections.abc import Set

import numpy as np
import pytest

from kgdbpatch.errors import BadPatch, Refused
from kgdbpatch.isa import encode
from kgdbpatch.isa.abi import ABI, DARWIN, SYSV
from kgdbpatch.isa.decode import Kind, decode
from kgdbpatch.patch.plan import (
    Payload,
    Place,
    Site,
    asm_payload,
    blob_payload,
    call_payload,
    count_payload,
    plan,
)
from kgdbpatch.patch.trap import trap_word

NEAR, FAR = 0x0100_0000, 0x1011_0000
SITE = 0x000D_BDB8
PLACE = Place(body=FAR, springboard=0x1000, counter=0x1009_0030)
FREE = frozenset({"r11", "r12", "ctr", "cr0"})


ADD = encode.addi(3, 3, 1)


def site(
    free: Set[str] = FREE,
    word: int = ADD,
    abi: ABI = DARWIN,
    after: Set[str] | None = None,
    stack: bool = True,
) -> Site:
    return Site(decode(word, SITE), frozenset(free), frozenset(free if after is None else after), abi, stack)


def words(code: bytes) -> list[int]:
    found: list[int] = np.frombuffer(code[: len(code) // 4 * 4], ">u4").tolist()
    return found


def test_patch_out_of_reach_goes_through_a_springboard() -> None:
    made = plan(site(), call_payload(0x2_0000, DARWIN), PLACE)
    assert encode.branch_target(SITE, made.splice) == 0x1000
    assert made.springboard == 0x1000
    register = words(made.springboard_code)[0] >> 21 & 31
    assert words(made.springboard_code) == [
        *encode.load_address(register, FAR),
        encode.mtctr(register),
        encode.bctr(),
    ]
    assert f"r{register}" in FREE


def test_patch_within_reach_needs_none() -> None:
    made = plan(site(), call_payload(0x2_0000, DARWIN), Place(NEAR, 0x1000, NEAR + 0x100))
    assert made.springboard is None
    assert encode.branch_target(SITE, made.splice) == NEAR


@pytest.mark.parametrize("free", [set(), {"r12"}, {"ctr"}, {"lr"}])
def test_springboard_keeps_on_the_stack_what_is_not_free(free: set[str]) -> None:
    made = plan(site(free=free), count_payload(), PLACE)
    board, body = words(made.springboard_code), words(made.code)
    assert len(board) % 4 == 0
    assert len(board) <= 8
    frame = (board[0] & 0xFFFF ^ 0x8000) - 0x8000
    assert board[0] == encode.stwu(1, frame, 1)
    stores = [(w >> 21 & 31, w & 0xFFFF) for w in board if w >> 26 == 36]
    undo = body[: body.index(encode.addi(1, 1, -frame))]
    loads = [(w >> 21 & 31, w & 0xFFFF) for w in undo if w >> 26 == 32]
    assert sorted(stores) == sorted(loads)
    assert all(DARWIN.linkage <= slot < -frame - DARWIN.red_zone for _, slot in stores)


@pytest.mark.parametrize("free", [{"ctr", "lr"}, {"r12", "r30"}])
def test_springboard_keeps_in_registers_what_it_can(free: set[str]) -> None:
    made = plan(site(free=free, stack=False), asm_payload(lambda _at: [encode.nop()], FAR, SYSV), PLACE)
    assert not any(decode(word, 0).mnemonic == "stwu" for word in words(made.springboard_code))


def test_where_r1_is_no_stack_nothing_is_kept_there() -> None:
    with pytest.raises(Refused) as refused:
        plan(site(free=set(), stack=False), count_payload(), PLACE)
    assert refused.value.rule == "stack"
    assert refused.value.address == SITE


def test_nothing_is_called_while_an_rfi_is_coming() -> None:
    where = Site(decode(ADD, SITE), FREE, FREE, DARWIN, returning=True)
    with pytest.raises(Refused) as refused:
        plan(where, call_payload(0x2_0000, DARWIN), PLACE)
    assert refused.value.rule == "exception return"


def near(counter: int = NEAR + 0x104) -> Place:
    return Place(NEAR, None, counter)


def test_an_empty_patch_is_two_branches() -> None:
    payload = Payload(emit=lambda _at, _blob: [], clobbers=0, calls=False, counted=False)
    made = plan(site(), payload, near())
    assert words(made.code)[0] == ADD
    assert encode.branch_target(NEAR + 4, words(made.code)[1]) == SITE + 4
    assert len(made.code) == 8


def test_counting_costs_seven_where_lr_is_free() -> None:
    made = plan(site(free={"r3", "r4", "lr", "cr0"}, word=encode.addi(9, 9, 1)), count_payload(), near())
    assert made.splice == encode.bl(SITE, NEAR)
    *straight, beqlr, retry = words(made.code)
    assert beqlr == 0x4D82_0020
    end = NEAR + 4 * (len(straight) + 1)
    again = encode.branch_target(end, retry)
    assert again is not None
    assert decode(straight[(again - NEAR) // 4]).mnemonic == "lwarx"
    assert len(straight) + 1 == 7  # displaced, lis, ori, lwarx, addi, stwcx., beqlr; with the bl: 7 more
    assert made.saved == ()


@pytest.mark.parametrize(("counter", "more"), [(NEAR + 0x104, 8), (NEAR + 0x2_0000, 7)])
def test_counting_where_lr_is_live(counter: int, more: int) -> None:
    made = plan(site(free={"r3", "r4", "ctr", "cr0"}), count_payload(), near(counter))
    assert 1 + len(words(made.code)) - 1 == more


def test_counting_keeps_what_is_live_in_free_registers() -> None:
    made = plan(site(free={"r9", "ctr", "cr5"}), count_payload(), near())
    mnemonics = [decode(word, 0).mnemonic for word in words(made.code)]
    assert not {"stwu", "stw"} & set(mnemonics)
    assert mnemonics.count("mcrf") == 2
    assert "mtctr" in mnemonics


def test_no_springboard_left_is_refused() -> None:
    with pytest.raises(Refused) as refused:
        plan(site(), call_payload(0x2_0000, DARWIN), Place(FAR, None, PLACE.counter))
    assert refused.value.rule == "springboard"


def test_body_ends_with_the_displaced_instruction_and_the_way_back() -> None:
    made = plan(site(), call_payload(0x2_0000, DARWIN), PLACE)
    *_, displaced, back = words(made.code)
    assert displaced == ADD
    assert encode.branch_target(FAR + len(made.code) - 4, back) == SITE + 4


def test_every_save_is_restored_from_the_same_slot() -> None:
    made = plan(site(), call_payload(0x2_0000, DARWIN), PLACE)
    decoded = [decode(word, FAR + 4 * index) for index, word in enumerate(words(made.code))]
    body = decoded[: made.body_words]
    frame = -((body[0].word & 0xFFFF ^ 0x8000) - 0x8000)
    stores = {(i.word >> 21 & 31, i.word & 0xFFFF) for i in body if i.mnemonic == "stw"}
    loads = {(i.word >> 21 & 31, i.word & 0xFFFF) for i in body if i.mnemonic == "lwz"}
    assert body[0].mnemonic == "stwu"
    assert encode.addi(1, 1, frame) in words(made.code)
    assert stores <= loads
    assert all(DARWIN.linkage <= slot < frame for _, slot in stores)
    assert set(made.saved) >= {f"r{n}" for n in (0, *range(3, 11))} | {"lr"}
    assert not set(made.saved) & FREE


def test_the_red_zone_is_left_alone() -> None:
    made = plan(site(), call_payload(0x2_0000, DARWIN), PLACE)
    frame = 0x10000 - (words(made.code)[0] & 0xFFFF)
    slots = [word & 0xFFFF for word in words(made.code) if word >> 26 == 36]
    assert max(slots) + 4 <= frame - DARWIN.red_zone


def test_assembler_payload_saves_only_what_it_changes() -> None:
    payload = asm_payload(lambda _at: [encode.addi(9, 0, 1), encode.addi(12, 0, 2)], FAR, SYSV)
    made = plan(site(abi=SYSV), payload, PLACE)
    assert made.saved == ("r9",)
    alone = asm_payload(lambda _at: [encode.addi(12, 0, 2)], FAR, SYSV)
    assert words(plan(site(abi=SYSV), alone, PLACE).code) == [
        encode.addi(12, 0, 2),
        encode.addi(3, 3, 1),
        encode.ba(SITE + 4),
    ]


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        ([encode.blr()], "return"),
        ([encode.b(FAR, FAR + 0x1000)], "branch away"),
        ([0], "not a known instruction"),
        ([encode.stwu(1, -32, 1)], "r1 changed"),
        ([], "no instruction"),
    ],
)
def test_payload_that_leaves_is_refused(payload: list[int], reason: str) -> None:
    with pytest.raises(BadPatch, match=reason):
        asm_payload(lambda _at: payload, FAR, SYSV)


def test_counting_payload_gives_registers_back_before_it_runs() -> None:
    seen = [encode.stw(11, 0, 12)]
    payload = asm_payload(lambda _at: seen, FAR, SYSV, counted=True)
    made = plan(site(free=set(), abi=SYSV), payload, PLACE)
    body = words(made.code)
    before = body[: body.index(seen[0])]
    loaded = {word >> 21 & 31 for word in before if word >> 26 == 32}
    assert {11, 12} <= loaded
    assert made.counted
    assert made.guard == (0, 0)


def test_blob_stands_behind_the_body_and_is_called() -> None:
    blob = bytes(range(64))
    made = plan(site(), blob_payload(lambda at: (blob, 32, at + 8), DARWIN), PLACE)
    start = made.code.index(blob)
    assert start % 16 == 0
    assert made.constant_size == start + 32
    calls = [FAR + 4 * i for i, w in enumerate(words(made.code[:start])) if decode(w, 0).kind is Kind.CALL]
    (call,) = calls
    assert encode.branch_target(call, words(made.code)[(call - FAR) // 4]) == FAR + start + 8
    assert made.guard[0] * 4 + FAR <= call < made.guard[1] * 4 + FAR


LEAF = [encode.addi(3, 3, 1), encode.addi(9, 0, 2), encode.blr()]


def leaf(text: list[int], abi: ABI = SYSV) -> Payload:
    code = b"".join(word.to_bytes(4, "big") for word in text)
    return blob_payload(lambda at: (code, len(code), at), abi, text)


def test_code_that_calls_nothing_has_only_its_own_changes_kept() -> None:
    made = plan(site(free={"r11", "r12", "cr0", "lr", "ctr", "r3", "r9"}, abi=SYSV), leaf(LEAF), near())
    assert made.saved == ()
    assert made.guard == (0, 0), "it cannot sleep"
    minimum = 6 + 1 + 1 + 1  # count, bl, displaced, b
    assert made.body_words == minimum
    live = plan(site(free={"r11", "r12", "cr0"}, abi=SYSV), leaf(LEAF), near())
    assert set(live.saved) == {"r3", "r9", "lr"}
    # lr goes through a free register; stwu, two stores, two loads, addi
    assert live.body_words == minimum + 2 + 6


@pytest.mark.parametrize(
    "text",
    [
        [encode.bl(0, 0x100), encode.blr()],
        [encode.bctr()],
        [encode.b(0, -4)],
        [0x4400_0002, encode.blr()],  # sc
    ],
)
def test_code_that_may_leave_itself_is_guarded(text: list[int]) -> None:
    made = plan(site(abi=SYSV), leaf(text), near())
    assert made.guard != (0, 0)
    assert {"r0", "r3", "r10", "lr"} <= set(made.saved)


def test_code_that_uses_the_stack_gets_a_frame() -> None:
    text = [encode.stwu(1, -16, 1), encode.addi(1, 1, 16), encode.blr()]
    made = plan(site(abi=DARWIN), leaf(text, DARWIN), near())
    assert any(decode(word, 0).mnemonic == "stwu" for word in words(made.code)[: made.body_words])


def test_floating_point_is_never_touched() -> None:
    lfd = 50 << 26 | 1 << 21 | 3 << 16  # lfd f1,0(r3)
    with pytest.raises(Refused) as refused:
        plan(site(), asm_payload(lambda _at: [lfd], FAR, SYSV), PLACE)
    assert refused.value.rule == "floating point"


def test_a_trap_is_entered_as_it_is() -> None:
    trap = trap_word(5)
    made = plan(site(set()), asm_payload(lambda _: [encode.nop()], FAR, DARWIN), PLACE._replace(trap=trap))
    assert (made.splice, made.entry, made.springboard, made.springboard_code) == (trap, "trap", None, b"")
    assert words(made.code) == [encode.nop(), ADD, encode.ba(SITE + 4)]


def test_a_trap_never_links() -> None:
    free = FREE | {"lr", "r10"}
    assert plan(site(free), count_payload(), PLACE).splice & 1
    assert plan(site(free), count_payload(), PLACE._replace(trap=trap_word(1))).splice == trap_word(1)


def test_no_trap_while_the_exception_state_is_live() -> None:
    with pytest.raises(Refused, match="SRR0") as refused:
        plan(site()._replace(trappable=False), count_payload(), PLACE._replace(trap=trap_word(0)))
    assert refused.value.rule == "exception return"
