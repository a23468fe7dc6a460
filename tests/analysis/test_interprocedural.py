"""Summaries, whole-program liveness and the call graph: small programs, and both kernels."""

from __future__ import annotations

import random

import numpy as np
import pytest

from bench.precision import by_convention, precision
from kgdbpatch.analysis import regset
from kgdbpatch.analysis.call_graph import CallGraph, CallKind
from kgdbpatch.analysis.interprocedural import ALWAYS, FREEABLE, ProgramLiveness
from kgdbpatch.analysis.liveness_index import LivenessIndex
from kgdbpatch.errors import Misuse
from kgdbpatch.image import Image
from kgdbpatch.isa.decode import decode
from kgdbpatch.isa.registers import mask
from kgdbpatch.kernel import analyses, catalog

from .code import BASE, needs_as
from .programs import free, index, program, reader

CALL = "stwu r1,-16(r1)\n mflr r0\n stw r0,20(r1)\n bl {0}\n lwz r0,20(r1)\n mtlr r0\n addi r1,r1,16\n blr\n"


@needs_as
def test_assembler_passes_on_what_a_callee_returns_in_any_register() -> None:
    """As Linux does: load_up_fpu changes the MSR in r9, from which fast_exception_return goes back."""
    liveness, starts = program(
        "handler: bl load\n b back",
        "load: ori r9,r9,0x2000\n li r4,1\n stb r4,0(r5)\n blr",
        "back: mtsrr1 r9\n lwz r4,32(r11)\n lwz r9,52(r11)\n rfi",
    )
    behind = starts[1] + 12
    assert "r9" not in free(liveness, behind)
    assert "r4" in free(liveness, behind)
    assert not {"r0", "r7", "ctr", "ca", "cr0"} & free(liveness, behind)  # the interrupted code's


@needs_as
def test_arguments_that_a_callee_does_not_read_are_free() -> None:
    liveness, starts = program(CALL.format("g"), "g: add r3,r3,r4\n blr")
    found = free(liveness, starts[0] + 12)
    assert {"r5", "r6", "r7", "r8", "r9", "r10", "r11", "r12", "cr1", "ctr"} <= found
    assert not {"r3", "r4"} & found


@needs_as
def test_a_result_that_a_callee_leaves_where_it_was_is_live() -> None:
    liveness, starts = program(CALL.format("g"), "g: lwz r5,0(r4)\n blr")
    assert "r3" not in free(liveness, starts[0] + 12)


@needs_as
def test_nothing_is_live_behind_a_call_that_does_not_return() -> None:
    liveness, starts = program(CALL.format("g"), "g: stw r3,0(r4)\n1: b 1b")
    assert liveness.summaries.no_return.tolist() == [True, True]
    assert {"r14", "r31", "lr"} <= free(liveness, starts[0] + 12)
    liveness, _ = program(CALL.format("g"), "g: cmpwi r3,0\n beqlr\n1: b 1b")
    assert liveness.summaries.no_return.tolist() == [False, False]


@needs_as
def test_code_with_a_convention_of_its_own_is_judged_by_what_it_does() -> None:
    liveness, starts = program(CALL.format("g"), "g: add r11,r12,r14\n mr r3,r11\n blr")
    found = free(liveness, starts[0] + 12)
    assert not {"r12", "r14"} & found
    assert {"r11", "r9", "r5"} <= found


@needs_as
def test_a_register_saved_and_put_back_is_not_read() -> None:
    saver = (
        "g: stwu r1,-16(r1)\n stw r31,12(r1)\n li r31,1\n stw r31,0(r3)\n lwz r31,12(r1)\n addi r1,r1,16\n"
    )
    saver += " blr"
    liveness, _ = program(CALL.format("g"), saver)
    r31 = np.uint64(1 << 31)
    assert not liveness.summaries.reads[1] & r31
    assert not liveness.summaries.overwrites[1] & r31
    assert liveness.summaries.keeps[1] & r31


@needs_as
def test_what_a_caller_lets_live_on_through_a_call_is_live_in_the_callee() -> None:
    leaf = "g: lwz r3,0(r3)\n nop\n blr"
    liveness, starts = program(CALL.format("g"), leaf)
    assert "r9" in free(liveness, starts[1] + 4)
    reading = CALL.format("g").replace("bl g\n", "bl g\n stw r9,0(r3)\n")
    liveness, starts = program(reading, leaf)
    assert "r9" not in free(liveness, starts[1] + 4)
    assert "r9" not in free(liveness, starts[0] + 12)


@needs_as
def test_recursion_comes_to_an_end() -> None:
    liveness, _ = program("f: cmpwi r3,0\n beqlr\n b g", "g: addi r3,r3,-1\n b f")
    reads = regset.to_mask(int(liveness.summaries.reads[0]))
    assert reads & mask("r3")
    assert not reads & mask("r4", "r5")
    assert not liveness.summaries.no_return.any()


@needs_as
def test_an_unknown_callee_reads_all_arguments() -> None:
    liveness, starts = program(CALL.format("far"))
    assert not {f"r{n}" for n in range(3, 13)} & free(liveness, starts[0] + 12)


@needs_as
def test_why_is_the_nearest_reader() -> None:
    liveness, starts = program("li r9,1\n stw r9,0(r3)\n b 1f\n nop\n1: stw r9,4(r3)\n blr")
    why = index(liveness).why(starts[0] + 4, reader(liveness))
    assert why[9] == BASE + 4
    assert why[40] == BASE + 20


@needs_as
def test_the_call_graph() -> None:
    table = 0x00028010
    functions = (
        CALL.format("g"),
        f"g: lis r9,{table:#x}@ha\n addi r9,r9,{table:#x}@l\n lwz r9,0(r9)\n mtctr r9\n bctr",
        "h: li r3,1\n blr",
        "k: b h",
    )
    liveness, starts = program(*functions)
    held = starts[2].to_bytes(4, "big")
    graph = CallGraph(
        liveness.blocks, liveness.word_effects.defs, {}, [(table, held), (table + 16, bytes(4))]
    )
    assert {(c.source, c.target, c.kind) for c in graph.calls} == {
        (starts[0], starts[1], CallKind.CALL),
        (starts[1], table, CallKind.ADDRESS),
        (table, starts[2], CallKind.ADDRESS),
        (starts[3], starts[2], CallKind.TAIL),
    }
    assert graph.objects == (table,)
    assert [graph.is_leaf(place) for place in (*starts, table)] == [False, True, True, True, True]
    assert graph.chain(starts[0], starts[2]) is None
    chain = graph.chain(starts[0], starts[2], addresses=True)
    assert [call.target for call in chain or ()] == [starts[1], table, starts[2]]
    assert [call.source for call in graph.callers(starts[2])] == [starts[3], table]
    assert graph.components == []


@pytest.fixture(scope="module", params=["darwin", pytest.param("linux", marks=pytest.mark.linux)])
def kernel(request: pytest.FixtureRequest) -> tuple[Image, ProgramLiveness]:
    """An image that is built, analysed."""
    try:
        image = catalog.open_image(str(catalog.image_path(request.param)))
    except Misuse as missing:
        pytest.skip(str(missing))
    return image, analyses.liveness(image)


def test_jump_tables_are_resolved(kernel: tuple[Image, ProgramLiveness]) -> None:
    found, image = kernel[1].indirect, kernel[0]
    print(f"{image.format}: {len(found.tables)} of {len(found.looks_like_table)} jump tables resolved")
    # in the darwin guest's byte-code machine no guard bounds the index, on purpose
    share = 0.95 if image.format == "elf" else 0.3
    assert len(found.tables) >= share * len(found.looks_like_table) > 0


def test_branches_that_the_kernel_rewrites_may_lead_anywhere(kernel: tuple[Image, ProgramLiveness]) -> None:
    image, liveness = kernel
    trampolines = [symbol.address for symbol in image.symbols if symbol.name.startswith("__SCT__")]
    assert bool(trampolines) == (image.format == "elf")
    numbers = np.searchsorted(liveness.program.entry_address, trampolines)
    reads, arguments = liveness.summaries.reads[numbers], np.uint64(regset.from_mask(image.abi.args))
    assert (reads & arguments == arguments).all()


def _really_read(liveness: ProgramLiveness, sites: LivenessIndex, address: int, number: int) -> bool:
    """Follow a live register to its nearest readers, into calls, until an instruction does read it."""
    found, seen = liveness.program, set[int]()
    while address not in seen:
        seen.add(address)
        place = sites.why(address, reader(liveness)).get(number)
        if place is None:
            return False
        instruction = decode(int(found.words[found.at(place)]), place)
        if regset.from_mask(instruction.uses) >> number & 1:
            return True
        if instruction.target is None:
            return False
        address = instruction.target
    return False


def test_no_site_is_worse_for_knowing_the_callees(kernel: tuple[Image, ProgramLiveness]) -> None:
    """What the convention calls free and a callee's code is found to read was never free.

    Such are the registers of darwin's threads, which never return and so have no caller's
    registers to preserve: the context switch that they call stores them. On Linux they are variables
    that a function may store without having set them, as far as its ways tell.
    """
    liveness = kernel[1]
    found = liveness.solve()
    live, promised = (
        liveness.everywhere(found),
        liveness.everywhere(by_convention(liveness, found.exits)),
    )
    inside = liveness.program.function >= 0
    worse = np.where(inside, live & ~promised & FREEABLE, np.uint64(0))
    places = np.flatnonzero(worse)
    if kernel[0].format == "elf":
        assert len(places) < inside.sum() // 200
        return
    sites = LivenessIndex.of(liveness, found)
    for address, registers in zip(
        liveness.program.address[places].tolist(), worse[places].tolist(), strict=True
    ):
        for number in (number for number in range(64) if registers >> number & 1):
            assert _really_read(liveness, sites, address, number), (kernel[0].symbolize(address), number)
    print(f"{len(places)} sites where the convention calls free what a callee reads")


def test_knowing_the_callees_frees_registers(kernel: tuple[Image, ProgramLiveness]) -> None:
    found = precision(kernel[1])
    print(found)
    assert found.free > found.free_by_convention + 1
    assert found.roomy > found.roomy_by_convention + 0.03


def test_sites_answer_as_the_whole(kernel: tuple[Image, ProgramLiveness]) -> None:
    image, liveness = kernel
    found = liveness.solve()
    live, sites = liveness.everywhere(found), LivenessIndex.of(liveness, found)
    read = reader(liveness)
    inside = np.flatnonzero(liveness.program.function >= 0)
    for word in random.Random(1).sample(inside.tolist(), 500):
        address = int(liveness.program.address[word])
        assert sites.live(address, read) == int(live[word]), image.symbolize(address)
        why = sites.why(address, read)
        needed = int(live[word]) & ~int(ALWAYS)
        assert {bit for bit in range(64) if needed >> bit & 1} <= set(why), image.symbolize(address)
