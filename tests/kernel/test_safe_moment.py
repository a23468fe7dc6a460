"""Who is inside a function is found in the registers and on the stacks of a stopped kernel."""

from __future__ import annotations

import numpy as np
import pytest

from kgdbpatch.kernel.safe_moment import Ranges, Stacks
from kgdbpatch.personality.base import Thread, Window

FUNCTION = (0xC000_1000, 0xC000_1100, "f")
ELSEWHERE = 0xC000_3000
STACK, SIZE = 0xC100_0000, 0x2000
MSR, PROCESS = 0x9032, 0xD032


class Memory:
    """One stack, of words."""

    def __init__(self) -> None:
        self.words = np.zeros(SIZE // 4, ">u4")

    def put(self, address: int, *words: int) -> None:
        at = (address - STACK) // 4
        self.words[at : at + len(words)] = words

    def read(self, address: int, size: int) -> bytes | None:
        if not STACK <= address <= address + size <= STACK + SIZE:
            return None
        return self.words.tobytes()[address - STACK : address - STACK + size]


def registers(pc: int, r1: int, *, lr: int = ELSEWHERE, msr: int = MSR) -> dict[str, int]:
    return {"pc": pc, "r1": r1, "lr": lr, "msr": msr}


def inside(memory: Memory, cpu: dict[str, int], sp: int = STACK + 0x1000) -> list[tuple[str, str, int, int]]:
    stacks = Stacks(
        [Thread("worker", Window(STACK, STACK + SIZE), sp)],
        [cpu],  # type: ignore[list-item]
        lambda msr: bool(msr & 0x4000),
        memory.read,
        lambda words: words == MSR,
        (4,),
    )
    found = stacks.blockers(Ranges([FUNCTION]))
    return [(one.function, one.thread, one.address, one.depth) for one in found]


@pytest.fixture
def memory() -> Memory:
    """A stack with three frames from 0x1000 on, the outermost at its end."""
    memory = Memory()
    memory.put(STACK + 0x1000, STACK + 0x1040)
    memory.put(STACK + 0x1040, STACK + 0x1080, ELSEWHERE)
    memory.put(STACK + 0x1080, STACK + 0x1F00, ELSEWHERE)
    memory.put(STACK + 0x1F00, 0, ELSEWHERE)
    return memory


IDLE = registers(ELSEWHERE, 0xC200_0000)


def test_nobody_is_inside(memory: Memory) -> None:
    assert inside(memory, IDLE) == []


@pytest.mark.parametrize(("pc", "found"), [(FUNCTION[0], 0), (FUNCTION[0] + 4, 1), (FUNCTION[1], 0)])
def test_a_cpu_is_inside_from_the_second_instruction_on(memory: Memory, pc: int, found: int) -> None:
    assert len(inside(memory, registers(pc, STACK + 0x1000))) == found


def test_a_return_address_on_a_sleepers_stack_tells_how_deep(memory: Memory) -> None:
    memory.put(STACK + 0x1084, FUNCTION[0] + 0x20)
    assert inside(memory, IDLE) == [("f", "worker", FUNCTION[0] + 0x20, 2)]


def test_words_that_are_no_frames_do_not_count(memory: Memory) -> None:
    memory.put(STACK + 0x1050, FUNCTION[0] + 0x20)
    memory.put(STACK + 0xF00, FUNCTION[0] + 0x20)  # below the stack pointer
    assert inside(memory, IDLE) == []


def test_of_an_interrupted_context_all_words_count(memory: Memory) -> None:
    """LR of a function that had not saved it is among the registers that the exception put there."""
    memory.put(STACK + 0x1050, ELSEWHERE, MSR, FUNCTION[0] + 0x30)
    assert inside(memory, IDLE) == [("f", "worker", FUNCTION[0] + 0x30, 2)]


def test_an_interrupted_context_may_be_in_a_modules_code_or_a_patch(memory: Memory) -> None:
    memory.put(STACK + 0x1050, 0xF100_0040, MSR, FUNCTION[0] + 0x30)
    assert inside(memory, IDLE) == [("f", "worker", FUNCTION[0] + 0x30, 2)]


def test_where_the_chain_breaks_off_all_words_count(memory: Memory) -> None:
    memory.put(STACK + 0x1040, 0x1234)
    memory.put(STACK + 0x1800, FUNCTION[0] + 0x30)
    assert [row[2] for row in inside(memory, IDLE)] == [FUNCTION[0] + 0x30]


def test_a_function_that_has_given_up_its_frame_returns_by_what_it_had_saved(memory: Memory) -> None:
    """``lwz r0,36(r1); addi r1,r1,32``, and next ``mtlr r0``: LR is still that of the last call."""
    memory.put(STACK + 0x1044, FUNCTION[0] + 0x20)
    assert len(inside(memory, registers(ELSEWHERE, STACK + 0x1040))) == 1
    assert inside(memory, IDLE, STACK + 0x1040) == []  # it would be what an earlier call has left


def test_a_running_threads_stack_begins_where_the_cpu_says(memory: Memory) -> None:
    memory.put(STACK + 0x1044, FUNCTION[0] + 0x20)
    assert inside(memory, registers(ELSEWHERE, STACK + 0x1080)) == []
    assert len(inside(memory, registers(ELSEWHERE, STACK + 0x1000))) == 1


def test_an_interrupts_stack_leads_on_to_the_threads(memory: Memory) -> None:
    memory.put(STACK + 0x100, STACK + 0x140)
    memory.put(STACK + 0x140, STACK + 0x1040, FUNCTION[0] + 8)
    memory.put(STACK + 0x1084, FUNCTION[0] + 0x20)
    stacks = Stacks(
        [Thread("worker", Window(STACK + 0x1000, STACK + SIZE), 0)],
        [registers(ELSEWHERE, STACK + 0x100)],  # type: ignore[list-item]
        lambda msr: False,
        memory.read,
        lambda words: words == MSR,
        (4,),
    )
    found = stacks.blockers(Ranges([FUNCTION]))
    assert [(one.thread, one.address) for one in found] == [
        ("CPU 0", FUNCTION[0] + 8),
        ("worker", FUNCTION[0] + 0x20),
    ]


def test_of_what_an_interrupt_interrupted_all_words_count(memory: Memory) -> None:
    memory.put(STACK + 0x100, STACK + 0x140, 0, 0, ELSEWHERE, MSR, FUNCTION[0] + 8)
    memory.put(STACK + 0x140, STACK + 0x1040)
    stacks = Stacks(
        [Thread("worker", Window(STACK + 0x1000, STACK + SIZE), 0)],
        [registers(ELSEWHERE, STACK + 0x100)],  # type: ignore[list-item]
        lambda msr: False,
        memory.read,
        lambda words: words == MSR,
        (4,),
    )
    found = stacks.blockers(Ranges([FUNCTION]))
    assert [(one.thread, one.address) for one in found] == [("CPU 0", FUNCTION[0] + 8)]


def test_what_a_thread_returns_to_is_what_its_frames_saved(memory: Memory) -> None:
    sleeper = Thread("worker", Window(STACK, STACK + SIZE), STACK + 0x1000)
    idle = Thread("idle", Window(0xC200_0000, 0xC200_2000), 0xC200_1000)

    def returns(r1: int, thread: Thread | None = sleeper) -> set[int] | None:
        cpu = registers(ELSEWHERE, r1)
        kernel = Stacks(
            [sleeper, idle],
            [cpu],  # type: ignore[list-item]
            lambda msr: False,
            memory.read,
            lambda words: words == MSR,
            (4,),
        )
        found = kernel.returns(thread)
        return None if found is None else {*found}

    saved = {STACK + at + 4 for at in (0x1040, 0x1080, 0x1F00)}
    assert returns(0xC200_1000) == saved
    assert returns(STACK + 0x1080) == saved - {STACK + 0x1044}  # it runs, further up
    assert returns(0xC300_0000) is None, "whose stack is that?"
    assert returns(0xC200_1000, None) is None
    memory.put(STACK + 0x1050, ELSEWHERE, MSR)  # an interrupt's registers
    assert returns(0xC200_1000) == saved | {*range(STACK + 0x1040, STACK + 0x1080, 4)}


def test_a_blocker_reads_as_a_sentence(memory: Memory) -> None:
    memory.put(STACK + 0x1084, FUNCTION[0] + 0x20)
    stacks = Stacks(
        [Thread("w", Window(STACK, STACK + SIZE), STACK + 0x1000)],
        [],
        bool,
        memory.read,
        lambda words: words == MSR,
        (4,),
    )
    assert str(stacks.blockers(Ranges([FUNCTION]))[0]) == "w is in f (0xc0001020, 2 frames up)"
