"""Liveness of small functions whose answer is known, and of words that mean nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kgdbpatch.analysis import regset
from kgdbpatch.analysis.interprocedural import FREEABLE, analyze_program
from kgdbpatch.analysis.liveness_index import LivenessIndex
from kgdbpatch.analysis.program import ImplicitEdges
from kgdbpatch.isa.abi import SYSV
from kgdbpatch.isa.registers import bit

from .code import BASE, needs_as
from .programs import free, index, program, reader

FAR = BASE + 0x4000  # where there is no code
_NONE: Mapping[int, Sequence[int]] = {}


def _free(source: str, word: int, fixups: Mapping[int, Sequence[int]] | None = _NONE) -> set[str]:
    """Return what is free at a word of a function that nobody in sight calls."""
    liveness, _ = program(source, fixups=fixups)
    return free(liveness, BASE + 4 * word)


PLAIN = """
    stwu r1,-16(r1)
    mflr r0
    stw r31,12(r1)
    stw r0,20(r1)
    mr r31,r3
    bl far
    add r3,r3,r31
    lwz r0,20(r1)
    lwz r31,12(r1)
    mtlr r0
    addi r1,r1,16
    blr
"""
CALL = "mflr r0\n stw r0,4(r1)\n bl far\n {} lwz r0,4(r1)\n mtlr r0\n blr"


@needs_as
def test_overwritten_registers_are_free() -> None:
    found = _free(PLAIN, 0)
    assert {"r0", "ctr", "ca", "cr0", "cr7"} <= found
    assert not {"r1", "r2", "r13", "lr", "r31", "r3", "r10"} & found


@needs_as
def test_lr_is_free_once_saved_and_live_once_restored() -> None:
    assert "lr" in _free(PLAIN, 4)
    assert "lr" in _free(PLAIN, 7)
    assert "lr" not in _free(PLAIN, 10)


@needs_as
def test_callee_saved_register_is_free_between_last_use_and_restore() -> None:
    assert "r31" in _free(PLAIN, 4)  # it was saved and is overwritten
    assert "r31" not in _free(PLAIN, 5)
    assert "r31" in _free(PLAIN, 7)
    assert "r31" not in _free(PLAIN, 9)


@needs_as
def test_volatiles_are_free_behind_a_call_but_for_results() -> None:
    found = _free(PLAIN, 6)
    assert {"r0", "r5", "r6", "r7", "r8", "r9", "r10", "r11", "r12", "ctr"} <= found
    assert "r3" not in found


@needs_as
def test_return_registers_are_live_at_a_return_though_never_written() -> None:
    assert not {"r3", "r4"} & _free("lwz r5,0(r4)\n stw r5,4(r4)\n blr", 2)
    assert "r5" in _free("lwz r5,0(r4)\n stw r5,4(r4)\n blr", 0)


@needs_as
def test_a_loop_keeps_its_registers() -> None:
    loop = "mtctr r4\n1: lbzu r5,1(r3)\n add r6,r6,r5\n bdnz 1b\n mr r3,r6\n blr"
    assert not {"r3", "r6", "ctr"} & _free(loop, 2)
    assert "r5" in _free(loop, 1)
    assert "r5" not in _free(loop, 2)


@needs_as
def test_a_conditional_return_reads_its_field_only() -> None:
    source = "cmpwi cr7,r3,0\n cmpwi cr6,r4,0\n beqlr cr7\n li r3,1\n blr"
    assert "cr7" not in _free(source, 2)
    assert "cr6" in _free(source, 2)
    assert {"cr6", "cr7"} <= _free(source, 0)


@needs_as
@pytest.mark.parametrize("last", ["rfi", "b far", "beq far\n blr", "nop", "sc\n blr", ".long 0"])
def test_everything_is_live_where_control_is_lost(last: str) -> None:
    assert _free(f"li r9,1\n {last}", 1) == set()


@needs_as
def test_everything_is_live_at_a_call_that_may_not_be_made() -> None:
    for behind in ("blr", "li r9,1\n blr"):
        assert _free(f"li r9,1\n beqctrl\n {behind}", 1) == {"lr"}  # which it sets in any case


@needs_as
def test_a_branch_to_who_knows_where_reads_what_a_function_may() -> None:
    assert not {*(f"r{n}" for n in range(3, 13)), "lr", "r31"} & _free("li r9,1\n bctr", 1)
    assert (
        _free("bcl 20,31,1f\n1: mflr r9\n lwzx r9,r9,r3\n mtctr r9\n bctr\n add r3,r4,r14\n blr", 4) == set()
    )


@needs_as
def test_a_trap_reads_what_a_call_does() -> None:
    found = _free("li r9,1\n trap\n blr", 1)
    assert not {f"r{n}" for n in range(3, 11)} & found
    assert {"r0", "ctr", "cr0"} <= found
    assert "r9" in _free("li r9,1\n tweqi r4,0\n blr", 1)  # goes on with all as it was, or not at all


@needs_as
def test_a_call_of_unknown_code_reads_arguments_and_what_a_pointer_may_be_given() -> None:
    found = _free(CALL.format(""), 2)
    assert not {"r3", "r10", "r11", "r12", "cr1", "r14", "r31", "cr2"} & found
    assert {"r0", "cr0", "cr6", "ctr", "lr"} <= found


@needs_as
def test_unknown_code_that_is_called_directly_may_save_registers_for_its_caller() -> None:
    source = PLAIN.replace("add r3,r3,r31", "li r31,1\n stw r31,0(r3)")
    assert "r31" not in _free(source, 5)
    assert "r31" in _free(source.replace("bl far", "mtctr r4\n bctrl"), 6)


@needs_as
def test_what_is_read_after_many_blocks_is_live() -> None:
    blocks = "\n".join(f"cmpwi r4,{n}\n beq {n}f\n li r5,{n}\n{n}:" for n in range(1, 20))
    for answer, last in ((False, "mr r3,r9"), (True, "li r9,0")):
        assert ("r9" in _free(f"li r9,1\n{blocks} {last}\n blr", 1)) is answer


@needs_as
def test_learning_the_pc_is_no_call() -> None:
    source = "mflr r12\n bcl 20,31,1f\n1: mflr r10\n mtlr r12\n lwz r3,0(r10)\n blr"
    liveness, _ = program(source)
    assert "r12" not in free(liveness, BASE + 4)
    assert liveness.conforming.all()
    assert not liveness.blocks.unknown_call.any()


@needs_as
def test_a_caller_that_reads_on_knows_its_callee() -> None:
    assert {"r0", "ctr"} <= _free(CALL.format("stw r4,0(r3)\n"), 2)
    assert "r0" not in _free(CALL.format("stw r0,0(r3)\n"), 2)
    assert "ctr" not in _free(CALL.format("mfctr r3\n"), 2)


@needs_as
def test_code_with_a_convention_of_its_own_has_everything_live_at_its_end() -> None:
    source = "add r9,r11,r12\n li r8,1\n blr"  # reads what no caller sets
    assert not {"r8", "r9", "r5"} & _free(source, 2)
    assert "r9" in _free(source, 0)


@needs_as
def test_what_a_fixup_reads_is_live_at_the_access() -> None:
    source = "li r9,7\n lwz r3,0(r3)\n blr\n mr r3,r9\n blr"
    assert "r9" not in _free(source, 1, None)  # no edge leads to the fix-up
    told = {BASE + 4: (BASE + 12,)}
    assert "r9" not in _free(source, 1, told)
    assert "r9" in _free(source, 2, told)
    assert "r9" in _free(source, 1)


@needs_as
def test_what_an_unknown_fixup_reads_is_live_where_an_access_may_follow() -> None:
    source = "li r9,7\n cmpwi r4,0\n beq 1f\n lwz r3,0(r3)\n1: blr\n mr r3,r9\n blr"
    assert "r9" not in _free(source, 1, None)
    assert "r9" in _free(source, 4, None)
    assert "r9" in _free(source.replace("lwz r3,0(r3)", "add r3,r3,r4"), 1, None)


@needs_as
def test_filler_is_no_fixup() -> None:
    assert "r9" in _free("li r9,7\n lwz r3,0(r3)\n blr\n .long 0", 1, None)


@needs_as
def test_what_a_faulting_load_did_not_overwrite_is_live_in_its_fixup() -> None:
    source = "lwz r9,0(r3)\n mr r3,r9\n blr\n add r3,r3,r9\n blr"
    assert "r9" in _free(source, 0)
    assert "r9" not in _free(source, 0, {BASE: (BASE + 12,)})


@needs_as
def test_a_fixup_in_the_middle_of_other_code() -> None:
    source = "li r9,7\n cmpwi r4,0\n beq 1f\n lwz r3,0(r3)\n blr\n1: mr r3,r9\n blr"
    assert "r9" not in _free(source, 3, {BASE + 12: (BASE + 20,)})
    assert "r9" in _free(source, 3)


@needs_as
def test_a_fixup_elsewhere_reads_everything() -> None:
    source = "lwz r5,0(r3)\n li r5,1\n blr"
    assert _free(source, 0, {BASE: (FAR,)}) == set()
    assert _free(source, 0, {BASE: (BASE + 4, FAR)}) == set()
    assert "r5" in _free(source, 1, {BASE: (FAR,)})


@needs_as
def test_a_tail_call_reads_what_its_target_does() -> None:
    found = free(program("li r5,0\n b g", "g: add r3,r3,r4\n blr")[0], BASE + 4)
    assert {"r0", "r5", "r11", "ctr", "cr0"} <= found
    assert not {"r3", "r4", "lr", "r31"} & found


@needs_as
def test_why_names_the_first_reader() -> None:
    liveness, _ = program(PLAIN.replace("far", "g"), "g: add r3,r3,r4\n blr")
    why = index(liveness).why(BASE + 4 * 5, reader(liveness))
    assert why[31] == BASE + 4 * 6
    assert why[3] == BASE + 4 * 5  # the call may take it
    assert regset.from_mask(1 << bit("lr")).bit_length() - 1 not in why


@needs_as
def test_nothing_is_known_outside_of_functions() -> None:
    liveness, _ = program(PLAIN)
    kept = index(liveness)
    assert kept.live(BASE + 0x400, reader(liveness)) is None
    assert kept.live(BASE - 4, reader(liveness)) is None
    assert kept.why(BASE + 0x400, reader(liveness)) == {}


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 0xFFFFFFFF), min_size=1, max_size=40), st.integers(0, 40), st.booleans())
def test_any_words_have_an_answer(words: list[int], cut: int, known: bool) -> None:
    """The same as the arrays have; what is read is live, and all is before what is no instruction."""
    cut = min(cut, len(words) - 1)
    functions = [(BASE, 4 * cut), (BASE + 4 * cut, 4 * (len(words) - cut))]
    code = np.array(words, dtype=np.uint32)
    liveness = analyze_program([(BASE, code)], functions, SYSV, [], ImplicitEdges({} if known else None))
    found = liveness.solve()
    everywhere, kept = liveness.everywhere(found), LivenessIndex.of(liveness, found)
    for number in range(len(words)):
        live = kept.live(BASE + 4 * number, reader(liveness))
        assert live == int(everywhere[number])
        assert int(liveness.word_effects.uses[number]) & ~live == 0
        if not liveness.program.decoded.known[number]:
            assert int(FREEABLE) & ~live == 0
