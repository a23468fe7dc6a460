"""Liveness of small functions whose answer is known."""

from __future__ import annotations

import pytest

from kgdbpatch.analysis.callees import Callees, Code
from kgdbpatch.analysis.live import Liveness
from kgdbpatch.errors import Misuse
from kgdbpatch.isa.abi import DARWIN, SYSV
from kgdbpatch.isa.registers import names

from .code import BASE, assemble, needs_as

pytestmark = needs_as


def _of(source: str, **options: object) -> Liveness:
    return Liveness(assemble(source), BASE, SYSV, **options)  # type: ignore[arg-type]


def _free(liveness: Liveness, index: int) -> set[str]:
    return set(names(liveness.free(BASE + 4 * index)))


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


def test_overwritten_registers_are_free() -> None:
    liveness = _of(PLAIN)
    assert {"r0", "ctr", "ca", "cr0", "cr7"} <= _free(liveness, 0)
    assert not {"r1", "r2", "r13", "lr", "r31", "r3", "r10"} & _free(liveness, 0)


def test_lr_is_free_once_saved_and_live_once_restored() -> None:
    liveness = _of(PLAIN)
    assert "lr" in _free(liveness, 4)
    assert "lr" in _free(liveness, 7)
    assert "lr" not in _free(liveness, 10)


def test_callee_saved_register_is_free_between_last_use_and_restore() -> None:
    liveness = _of(PLAIN)
    assert "r31" in _free(liveness, 4)  # it was saved and is overwritten
    assert "r31" not in _free(liveness, 5)
    assert "r31" in _free(liveness, 7)
    assert "r31" not in _free(liveness, 9)


def test_volatiles_are_free_behind_a_call_but_for_results() -> None:
    free = _free(_of(PLAIN), 6)
    assert {"r0", "r5", "r6", "r7", "r8", "r9", "r10", "r11", "r12", "ctr"} <= free
    assert not {"r3"} & free


def test_return_registers_are_live_at_a_return_though_never_written() -> None:
    liveness = _of("lwz r5,0(r4)\n stw r5,4(r4)\n blr")
    assert not {"r3", "r4"} & _free(liveness, 2)
    assert "r5" in _free(liveness, 0)


def test_a_loop_keeps_its_registers() -> None:
    liveness = _of("mtctr r4\n1: lbzu r5,1(r3)\n add r6,r6,r5\n bdnz 1b\n mr r3,r6\n blr")
    assert not {"r3", "r6", "ctr"} & _free(liveness, 2)
    assert "r5" in _free(liveness, 1)
    assert "r5" not in _free(liveness, 2)


def test_a_conditional_return_reads_its_field_only() -> None:
    liveness = _of("cmpwi cr7,r3,0\n cmpwi cr6,r4,0\n beqlr cr7\n li r3,1\n blr")
    assert "cr7" not in _free(liveness, 2)
    assert "cr6" in _free(liveness, 2)
    assert {"cr6", "cr7"} <= _free(liveness, 0)


@pytest.mark.parametrize(
    "last", ["bctr", "rfi", "b far", "beq far\n blr", "nop", "sc\n blr", "trap\n blr", ".long 0"]
)
def test_everything_is_live_where_control_is_lost(last: str) -> None:
    liveness = _of(f"li r9,1\n {last}")
    free = _free(liveness, 1) - {"r9"}
    assert free == set()


def test_a_call_reads_all_argument_registers_and_stub_registers() -> None:
    liveness = _of("mflr r0\n stw r0,4(r1)\n bl far\n lwz r0,4(r1)\n mtlr r0\n blr")
    assert not {"r3", "r10", "r11", "r12", "cr1"} & _free(liveness, 2)
    assert {"r0", "cr0", "cr6", "ctr"} <= _free(liveness, 2)


def test_learning_the_pc_is_no_call() -> None:
    liveness = _of("mflr r12\n bcl 20,31,1f\n1: mflr r10\n mtlr r12\n lwz r3,0(r10)\n blr")
    assert not {"r12"} & _free(liveness, 1)
    assert liveness.oddities == ()
    assert liveness.is_leaf


def test_a_caller_that_reads_on_knows_its_callee() -> None:
    source = "mflr r0\n stw r0,4(r1)\n bl far\n stw {},0(r3)\n lwz r0,4(r1)\n mtlr r0\n blr"
    assert "r0" in _free(_of(source.format("r4")), 2)
    assert _free(_of(source.format("r9")), 2) == set()


def test_code_with_a_convention_of_its_own_has_everything_live_at_its_end() -> None:
    odd = _of("add r9,r11,r12\n li r8,1\n blr")  # reads what no caller sets
    assert odd.oddities
    assert not {"r8", "r9", "r5"} & _free(odd, 2)
    assert "r9" in _free(odd, 0)


def test_what_a_fixup_reads_is_live_at_the_access() -> None:
    source = "li r9,7\n lwz r3,0(r3)\n blr\n mr r3,r9\n blr"
    orphan = _of(source)
    assert "r9" not in _free(orphan, 1)
    told = _of(source, hidden={BASE + 4: (BASE + 12,)})
    assert "r9" not in _free(told, 1)
    assert "r9" in _free(told, 2)
    none = _of(source, hidden={})
    assert "r9" in _free(none, 1)


def test_a_fixup_in_the_middle_of_other_code() -> None:
    source = "li r9,7\n cmpwi r4,0\n beq 1f\n lwz r3,0(r3)\n blr\n1: mr r3,r9\n blr"
    assert "r9" not in _free(_of(source, hidden={BASE + 12: (BASE + 20,)}), 3)


def test_a_fixup_elsewhere_reads_everything() -> None:
    liveness = _of("lwz r5,0(r3)\n li r5,1\n blr", hidden={BASE: (BASE + 0x4000,)})
    assert _free(liveness, 0) == set()


def test_callees_are_judged_by_their_code() -> None:
    codes = {
        BASE + 0x4000: Code("plain", BASE + 0x4000, assemble("add r3,r3,r4\n blr")),
        BASE + 0x5000: Code("odd", BASE + 0x5000, assemble("add r3,r0,r4\n blr")),
    }
    callees = Callees(codes.get, SYSV)
    source = "mflr r0\n stw r0,4(r1)\n bl {}\n lwz r0,4(r1)\n mtlr r0\n blr"
    assert {"r0", "r11", "r12"} <= _free(_of(source.format("far"), callees=callees), 2)
    assert _free(_of(source.format("far+0x1000"), callees=callees), 2) == set()


def test_a_tail_call_to_a_plain_function_reads_arguments() -> None:
    codes = {BASE + 0x4000: Code("plain", BASE + 0x4000, assemble("add r3,r3,r4\n blr"))}
    free = _free(_of("li r5,0\n b far", callees=Callees(codes.get, SYSV)), 1)
    assert {"r0", "ctr", "cr0"} <= free
    assert not {"r3", "r10", "r11", "r12", "lr", "r31"} & free


def test_callers_that_rely_on_more_make_a_function_odd() -> None:
    callees = Callees(lambda _: None, SYSV, odd={BASE})
    liveness = _of("li r9,1\n blr", callees=callees)
    assert "r9" not in _free(liveness, 1)


def test_names_known_to_break_the_convention() -> None:
    liveness = _of(
        "mflr r0\n stw r0,4(r1)\n bl far\n lwz r0,4(r1)\n mtlr r0\n blr", call_effect=lambda _: "_mcount"
    )
    assert _free(liveness, 2) == set()


def test_why_names_the_first_reader() -> None:
    why = _of(PLAIN).why(BASE + 4 * 5)
    assert why["r31"] == BASE + 4 * 6
    assert why["r3"] == BASE + 4 * 5  # the call may take it
    assert why["msr"] is None or why["msr"] > BASE
    assert "lr" not in why


def test_leaf() -> None:
    assert _of("add r3,r3,r4\n blr").is_leaf
    assert not _of(PLAIN).is_leaf
    # a function with a frame that calls nothing may use what is below it
    assert Liveness(assemble("stwu r1,-16(r1)\n stw r3,-4(r1)\n addi r1,r1,16\n blr"), BASE, DARWIN).is_leaf


def test_a_site_outside_is_a_misuse() -> None:
    with pytest.raises(Misuse):
        _of(PLAIN).live(BASE + 0x400)
    with pytest.raises(Misuse):
        _of(PLAIN).live(BASE + 2)
