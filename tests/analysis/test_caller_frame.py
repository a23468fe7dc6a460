"""What functions do to their callers' frames, and whether another one may lie between."""

from __future__ import annotations

import pytest

from kgdbpatch.analysis.caller_frame import CallerFrame, Code, caller_frame
from kgdbpatch.analysis.cfg import FlowGraph
from kgdbpatch.isa.abi import DARWIN, SYSV
from kgdbpatch.isa.decode import Instruction

from .code import BASE, assemble, needs_as

pytestmark = needs_as

USUAL = "stwu r1,-32(r1)\n mflr r0\n stw r31,28(r1)\n stw r0,36(r1)\n"
LEAVE = "lwz r0,36(r1)\n lwz r31,28(r1)\n mtlr r0\n addi r1,r1,32\n blr\n"


def found(source: str, final: frozenset[int] = frozenset()) -> CallerFrame:
    graph = FlowGraph(assemble(source), BASE)

    def row(address: int, count: int) -> list[Instruction]:
        return [graph.at(address + 4 * index) for index in range(count)]

    def block(address: int) -> tuple[int, list[int]] | None:
        if address not in graph:
            return None
        here = graph.block_at(address)
        return here.end - 4, [edge.target for edge in here.successors]

    return caller_frame(BASE, Code(row, block, final.__contains__), SYSV)


@pytest.mark.parametrize(
    "source",
    [
        "blr",
        USUAL + "bl far\n" + LEAVE,
        # shared epilogues, frames of a size that is known at run time, and of more than 32 KiB
        USUAL + "addi r11,r1,32\n b 1f\n 1: lwz r0,4(r11)\n lwz r31,-4(r11)\n mtlr r0\n mr r1,r11\n blr",
        USUAL + "mr r31,r1\n lwz r9,0(r1)\n neg r10,r3\n stwux r9,r1,r10\n lwz r11,0(r1)\n"
        "lwz r0,4(r11)\n mtlr r0\n mr r1,r11\n blr",
        "lis r0,-1\n stwux r1,r1,r0\n lwz r1,0(r1)\n blr",
        # a local variable's address, and what was reloaded from the frame, may be given to anybody
        USUAL + "addi r3,r1,8\n lwz r4,24(r1)\n bl far\n" + LEAVE,
        "cmpwi r3,0\n beqlr\n " + USUAL + "bl far\n" + LEAVE,
        "mflr r0\n bcl 20,31,1f\n 1: mflr r9\n mtlr r0\n lwz r3,8(r9)\n blr",
        "cmpwi r3,0\n beqlr\n trap\n cmpwi r4,0\n beqlr\n trap\n blr",
        # behind a trap is no code: what stands there is another function's
        "cmpwi r3,0\n beqlr\n " + USUAL + "trap\n stw r3,64(r1)\n blr",
    ],
)
def test_compiled_functions_have_no_objection(source: str) -> None:
    assert found(source) == CallerFrame(returns=True, reads=0, unknown=(), objection=None)


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("lwz r3,0(r1)\n blr", "reads where its caller's frame ends"),
        (USUAL + "lwz r9,0(r1)\n lwz r3,0(r9)\n" + LEAVE, "reads where its caller's frame ends"),
        ("stw r3,8(r1)\n blr", "writes into its caller's frame"),
        ("lwzx r3,r1,r3\n blr", "reaches into its caller's frame by an index"),
        (USUAL + "addi r4,r1,40\n bl far\n" + LEAVE, "hands on the address of its caller's frame"),
        (USUAL + "addi r9,r1,40\n stw r9,12(r1)\n" + LEAVE, "keeps the address of its caller's frame"),
        ("mr r3,r1\n blr", "hands on the address of its caller's frame"),
        ("mflr r3\n blr", "returns where it was called from"),
        ("mflr r0\n stw r0,0(r3)\n stw r1,4(r3)\n li r3,0\n blr", "keeps where it was called from"),
        ("stw r1,4(r3)\n li r3,0\n blr", "keeps the address of its caller's frame"),
        ("lwz r0,0(r3)\n lwz r1,4(r3)\n mtlr r0\n blr", "returns on another stack"),
        (USUAL + "mr r1,r4\n" + LEAVE, "returns on another stack"),
        (USUAL + "blr", "returns on another stack"),
        ("mtlr r3\n blr", "returns to an address of its own making"),
        ("mtsrr0 r3\n rfi", "returns from an exception"),
        (USUAL + "mtctr r3\n bctr", "jumps to where is not known"),
    ],
)
def test_what_needs_its_caller_is_objected_to(source: str, why: str) -> None:
    objection = found(source).objection
    assert objection is not None
    assert objection[1] == why


@pytest.mark.parametrize(
    ("source", "reads"),
    [
        ("lwz r3,8(r1)\n blr", 4),
        ("lwz r3,12(r1)\n blr", 8),
        (USUAL + "lbz r3,47(r1)\n bl far\n" + LEAVE, 8),
        # of what it goes on to, too
        ("cmpwi r3,0\n beq 1f\n blr\n 1: lwz r3,16(r1)\n blr", 12),
    ],
)
def test_arguments_on_the_stack_are_counted(source: str, reads: int) -> None:
    assert found(source) == CallerFrame(returns=True, reads=reads, unknown=(), objection=None)


def test_jumps_to_code_unknown_are_told() -> None:
    assert found("lwz r9,0(r3)\n mtctr r9\n bctr").unknown == (BASE + 8,)


def test_who_never_returns_is_told() -> None:
    assert not found("1: b 1b", frozenset({BASE})).returns
    assert found(USUAL + "bl far\n lwz r3,0(r1)\n trap", frozenset({BASE + 0x4000})).objection is None


def test_asking_who_called_is_told() -> None:
    asked = found(USUAL + "mr r4,r0\n bl far\n" + LEAVE)
    assert (asked.objection, asked.asks) == (None, BASE + 20)


def test_a_darwin_function_keeps_its_arguments_where_its_caller_has_made_room() -> None:
    graph = FlowGraph(assemble("mflr r0\n stw r0,8(r1)\n stw r3,24(r1)\n lwz r0,8(r1)\n mtlr r0\n blr"), BASE)
    code = Code(
        lambda address, count: [graph.at(address + 4 * index) for index in range(count)],
        lambda _: (graph.end - 4, []),
        lambda _: False,
    )
    assert caller_frame(BASE, code, DARWIN).objection is None
