"""Where r1 is no stack, and where SRR0 and SRR1 await their rfi."""

from __future__ import annotations

import pytest

from kgdbpatch.analysis.cfg import FlowGraph
from kgdbpatch.analysis.hazards import translation
from kgdbpatch.analysis.stack import exception_return, no_stack, reads_exception
from kgdbpatch.cpu.ppc6xx.msr import KERNEL_SPACE

from .code import BASE, assemble, needs_as

pytestmark = needs_as


def graph(source: str) -> FlowGraph:
    return FlowGraph(assemble(source), BASE)


def indices(addresses: set[int]) -> list[int]:
    return sorted((address - BASE) // 4 for address in addresses)


@pytest.mark.parametrize(
    "source",
    [
        "stwu r1,-32(r1)\n mflr r0\n addi r1,r1,32\n blr",
        "lwz r1,0(r1)\n blr",  # the back chain
        "mr r11,r1\n stwux r1,r1,r9\n addi r1,r11,0\n blr",
        "mr r1,r31\n blr",  # kept in a frame pointer
        "lwz r1,132(r4)\n lmw r13,8(r1)\n blr",  # a context switch: another kernel stack
    ],
)
def test_compiled_code_has_a_stack_everywhere(source: str) -> None:
    assert no_stack(graph(source)) == set()


def test_the_interrupted_stack_is_not_the_kernels() -> None:
    source = "lwz r3,4(r1)\n mtsrr0 r3\n beq 1f\n lwz r1,20(r1)\n lwz r3,8(r3)\n rfi\n1: blr"
    assert indices(no_stack(graph(source))) == [4, 5]


def test_a_stack_in_the_making_is_none() -> None:
    source = "lis r1,far@ha\n addi r1,r1,far@l\n stwu r1,-16(r1)\n bl far\n nop"
    assert indices(no_stack(graph(source))) == [1]
    assert indices(no_stack(graph("mfspr r1,272\n lwz r3,0(r3)\n mr r1,r3\n blr"))) == [1, 2]


def test_srr_is_awaited_from_its_first_write_to_the_rfi() -> None:
    source = "mr r3,r4\n mtsrr0 r3\n lwz r5,0(r4)\n mtsrr1 r5\n rfi\n nop\n blr"
    assert indices(exception_return(graph(source))) == [2, 3, 4]
    assert exception_return(graph("mtsrr0 r3\n blr")) == set()


def test_the_mtmsr_that_turns_translation_off_is_told() -> None:
    source = "mfmsr r5\n rlwinm r6,r5,0,28,25\n mtmsr r6\n isync\n lwz r3,0(r3)\n mtmsr r5\n isync\n blr"
    assert indices(translation(assemble(source), BASE, KERNEL_SPACE)[1]) == [2]
    source = "mfmsr r5\n rlwinm r6,r5,0,17,15\n mtmsr r6\n blr"
    assert translation(assemble(source), BASE, KERNEL_SPACE)[1] == set()


def test_readers_of_the_exception_state() -> None:
    assert reads_exception(graph("mfsrr0 r3\n blr"))
    assert reads_exception(graph("mr r4,r3\n mfsrr1 r3\n rfi"))
    assert not reads_exception(graph("mtsrr0 r3\n mtsrr1 r4\n rfi"))
