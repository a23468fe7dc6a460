"""Where the registers of a function's caller are in its middle."""

from __future__ import annotations

import pytest

from kgdbpatch.analysis.caller_frame import Code
from kgdbpatch.analysis.cfg import FlowGraph
from kgdbpatch.analysis.unwinding import Unwinding, unwinding
from kgdbpatch.isa.decode import Instruction

from .code import BASE, assemble, needs_as

pytestmark = needs_as

USUAL = "stwu r1,-32(r1)\n mflr r0\n stw r31,28(r1)\n stw r0,36(r1)\n mr r31,r3\n"
LEAVE = "lwz r0,36(r1)\n lwz r31,28(r1)\n mtlr r0\n addi r1,r1,32\n blr\n"


def found(source: str, index: int) -> Unwinding | None:
    """Return what is known before the instruction of that number."""
    graph = FlowGraph(assemble(source), BASE)

    def row(address: int, count: int) -> list[Instruction]:
        return [graph.at(address + 4 * number) for number in range(count)]

    def block(address: int) -> tuple[int, list[int]] | None:
        if address not in graph:
            return None
        here = graph.block_at(address)
        return here.end - 4, [edge.target for edge in here.successors]

    return unwinding(BASE, BASE + 4 * index, Code(row, block, lambda _: False))


@pytest.mark.parametrize(
    ("source", "index", "wanted"),
    [
        ("nop\n nop\n blr", 1, Unwinding(0, None, {}, True)),
        (USUAL + LEAVE, 1, Unwinding(32, None, {}, True)),
        (USUAL + LEAVE, 3, Unwinding(32, None, {}, True)),
        (USUAL + LEAVE, 5, Unwinding(32, None, {31: 28}, True)),
        (USUAL + "bl far\n nop\n" + LEAVE, 6, Unwinding(32, 36, {31: 28}, True)),
        (USUAL + "bl far\n nop\n" + LEAVE, 10, Unwinding(32, None, {}, True)),
        (USUAL + "bl far\n nop\n" + LEAVE, 11, Unwinding(0, None, {}, True)),
        ("stmw r29,-12(r1)\n stwu r1,-48(r1)\n li r30,1\n nop\n blr", 3, Unwinding(48, None, {30: 40}, True)),
        # one of two ways makes no frame: the same there is what both have
        ("cmpwi r3,0\n beqlr\n " + USUAL + "bl far\n nop\n" + LEAVE, 8, Unwinding(32, 36, {31: 28}, True)),
        # the register was changed, and kept nowhere
        ("stwu r1,-32(r1)\n li r31,1\n nop\n blr", 2, Unwinding(32, None, {}, False)),
        (USUAL + "stw r4,28(r1)\n nop\n" + LEAVE, 6, Unwinding(32, None, {}, False)),
        (USUAL + "cmpwi cr3,r3,0\n nop\n" + LEAVE, 6, Unwinding(32, None, {31: 28}, False)),
    ],
)
def test_what_is_known(source: str, index: int, wanted: Unwinding) -> None:
    got = found(source, index)
    assert got is not None
    assert (got.frame, got.lr, got.complete) == (wanted.frame, wanted.lr, wanted.complete)
    assert got.kept == wanted.kept


@pytest.mark.parametrize(
    ("source", "index"),
    [
        ("neg r10,r3\n stwux r1,r1,r10\n nop\n blr", 2),
        ("mflr r0\n bl far\n nop\n blr", 2),  # it returns to nobody
        ("cmpwi r3,0\n beq 1f\n stwu r1,-32(r1)\n 1: nop\n blr", 3),
        (USUAL + "bl far\n stw r3,36(r1)\n nop\n" + LEAVE, 7),
        (USUAL + "mtctr r3\n bctr\n nop\n" + LEAVE, 5),
        ("blr\n nop", 1),
    ],
)
def test_what_is_lost(source: str, index: int) -> None:
    assert found(source, index) is None
