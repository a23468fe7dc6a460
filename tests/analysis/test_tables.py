"""Indirect branches of small functions whose targets are known."""

from __future__ import annotations

import struct

import pytest

from kgdbpatch.analysis import regset
from kgdbpatch.analysis.blocks import Blocks
from kgdbpatch.analysis.program import ImplicitEdges, Program
from kgdbpatch.analysis.tables import Indirect, resolve

from .code import BASE, assemble, needs_as

pytestmark = needs_as

TABLE = 0x00028010  # its low half is negative as an immediate
CASES = "c0: li r3,1\n blr\nc1: li r3,2\n blr\nc2: li r3,3\n blr\nout: li r3,0\n blr\n"
JUMP = "lwzx r10,r9,r4\n add r9,r10,r9\n mtctr r9\n bctr"
GET = f"lis r9,{TABLE:#x}@ha\n addi r9,r9,{TABLE:#x}@l\n slwi r4,r3,2\n"


def _resolve(
    head: str, entries: list[int] | None = None, relative: int = TABLE
) -> tuple[Indirect, list[int]]:
    """Resolve ``head`` in front of three cases; return what was found and where the cases are."""
    words = assemble(f"{head}\n{CASES}")
    cases = [BASE + 4 * len(words) - 32 + 8 * n for n in range(4)]
    held = [cases[n] - relative for n in range(3)] if entries is None else [cases[n] for n in entries]
    data = struct.pack(f">{len(held)}I", *(entry & 0xFFFFFFFF for entry in held))
    program = Program([(BASE, words)], [(BASE, 4 * len(words))])
    return resolve(Blocks(program, ImplicitEdges({})), regset.defs(program.decoded), [(TABLE, data)]), cases


RELATIVE = {
    "gcc": f"cmplwi r3,2\n bgt out\n {GET} lwzx r9,r9,r4\n lis r5,{TABLE:#x}@ha\n addi r5,r5,{TABLE:#x}@l\n"
    " add r9,r9,r5\n mtctr r9\n bctr",
    "same base": f"cmplwi r3,2\n bgt out\n {GET} {JUMP}",
    "loaded index": f"lwz r3,0(r3)\n cmplwi cr7,r3,3\n bge cr7,out\n {GET} {JUMP}",
    "conditional return": f"cmplwi r3,2\n bgtlr\n {GET} {JUMP}",
    "taken guard": f"cmplwi r3,2\n ble 1f\n blr\n1: {GET} {JUMP}",
    "shifted down": f"addi r3,r3,-88\n clrlwi r3,r3,24\n cmplwi r3,2\n bgt out\n {GET} {JUMP}",
    "base in a loop": f"lis r9,{TABLE:#x}@ha\n addi r9,r9,{TABLE:#x}@l\n1: lwzu r3,4(r5)\n cmplwi r3,2\n"
    " bgt 1b\n slwi r4,r3,2\n lwzx r10,r9,r4\n add r10,r10,r9\n mtctr r10\n bctr",
    "get-PC base": f"mflr r0\n bcl 20,31,1f\n1: mflr r9\n mtlr r0\n addis r9,r9,{TABLE - BASE - 8:#x}@ha\n"
    f" addi r9,r9,{TABLE - BASE - 8:#x}@l\n cmplwi r3,2\n bgt out\n slwi r4,r3,2\n {JUMP}",
}


@pytest.mark.parametrize("head", RELATIVE.values(), ids=RELATIVE)
def test_relative_tables(head: str) -> None:
    found, cases = _resolve(head)
    (targets,) = found.tables.values()
    assert list(targets) == cases[:3]
    assert found.unresolved == set()


def test_an_absolute_table() -> None:
    found, cases = _resolve(
        f"cmplwi r3,3\n bgt out\n {GET} lwzx r9,r9,r4\n mtctr r9\n bctr", entries=[2, 0, 3, 1]
    )
    assert list(found.tables.values()) == [tuple(cases)]


def test_an_index_that_cannot_be_too_large_needs_no_guard() -> None:
    head = f"lbz r3,0(r3)\n {GET} lwzx r9,r9,r4\n mtctr r9\n bctr"
    assert list(_resolve(head, entries=[0, 1] * 128)[0].tables.values())
    head = f"rlwinm r4,r3,2,28,29\n lis r9,{TABLE:#x}@ha\n addi r9,r9,{TABLE:#x}@l\n add r4,r4,r9\n"
    found, cases = _resolve(f"{head} lwz r9,0(r4)\n mtctr r9\n bctr", entries=[0, 1, 0, 1])
    assert list(found.tables.values()) == [tuple(cases[:2])]


REFUSED = {
    "no guard": f"{GET} {JUMP}",
    "signed guard": f"cmpwi r3,2\n bgt out\n {GET} {JUMP}",
    "guard of another": f"cmplwi r6,2\n bgt out\n {GET} {JUMP}",
    "changed since": f"cmplwi r3,2\n bgt out\n addi r3,r3,1\n {GET} {JUMP}",
    "a call between": f"cmplwi r3,2\n bgt out\n bl far\n {GET} {JUMP}",
    "guarded on one way": f"cmpwi r6,0\n beq 1f\n cmplwi r3,2\n bgt out\n1: {GET} {JUMP}",
    "longer than the data": f"cmplwi r3,9\n bgt out\n {GET} {JUMP}",
}


@pytest.mark.parametrize("head", REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_told_is_unresolved(head: str) -> None:
    found, _ = _resolve(head)
    assert found.tables == {}
    assert len(found.unresolved) == len(found.looks_like_table) == 1


def test_entries_outside_the_function_are_no_jump_table() -> None:
    head = f"cmplwi r3,2\n bgt out\n {GET} {JUMP}"
    assert _resolve(head, relative=TABLE + 0x4000)[0].tables == {}


def test_numbers_in_ctr() -> None:
    words = assemble("lis r9,far@ha\n addi r9,r9,far@l\n mtctr r9\n bctr")
    program = Program([(BASE, words)], [(BASE, 4 * len(words))])
    found = resolve(Blocks(program, ImplicitEdges({})), regset.defs(program.decoded), [])
    assert list(found.constants) == [BASE + 12]


def test_a_pointer_is_a_tail_call_only_where_it_cannot_lead_inside() -> None:
    for code, pointers in (("lwz r9,4(r3)\n mtctr r9\n bctr", 1), ("mtctr r3\n bctr\n li r3,1\n blr", 0)):
        words = assemble(code)
        program = Program([(BASE, words)], [(BASE, 4 * len(words))])
        found = resolve(Blocks(program, ImplicitEdges({})), regset.defs(program.decoded), [])
        assert len(found.pointers) == pointers
        assert len(found.unresolved) == 1 - pointers
