"""Which parts of kernel stacks no thread comes back to."""

from __future__ import annotations

import pytest

from kgdbpatch.personality.base import Thread, Window, below_sleepers
from kgdbpatch.personality.linux.threads import Layout, may_resume, threads

THREADS = [
    Thread("one", Window(0x1000, 0x3000), 0x2F00),
    Thread("two", Window(0x4000, 0x6000), 0x4800),
    Thread("torn", Window(0x8000, 0xA000), 0x4800),  # its stack pointer is in another one's stack
]


@pytest.mark.parametrize(
    ("sp", "dead"),
    [
        (0x2E00, [(0x4000, 0x4800)]),
        (0x1000, [(0x4000, 0x4800)]),
        (0x3000, []),  # no thread's: an interrupt's stack, say
        (0x4400, [(0x1000, 0x2F00)]),
        (None, [(0x1000, 0x2F00), (0x4000, 0x4800)]),
    ],
)
def test_below_sleepers(sp: int | None, dead: list[tuple[int, int]]) -> None:
    assert below_sleepers(THREADS, sp) == [Window(*part) for part in dead]


MARK = 0x57AC6E9D
STACK, OTHER, FREED, INTERRUPTS = 0xC000_2000, 0xC000_4000, 0xC000_6000, 0xC000_8000
TASK, TWIN = 0xC001_0000, 0xC001_1000  # structures of threads: the stack, then the stack pointer


class Words:
    """Kernel memory in which only some words are not 0."""

    def __init__(self, words: dict[int, int]) -> None:
        self.words = words

    def read(self, address: int, size: int) -> bytes | None:
        if not 0xC000_0000 <= address < 0xC002_0000:
            return None
        places = range(address, address + size, 4)
        return b"".join(self.words.get(place, 0).to_bytes(4, "big") for place in places)

    def find(self, word: int) -> list[int]:
        return [place for place, found in self.words.items() if found == word]


@pytest.mark.parametrize(
    ("place", "sp", "live"),
    [
        (STACK + 0x1E00, OTHER + 0x1000, True),  # above where a sleeper left its stack
        (STACK + 0x1C00, OTHER + 0x1000, False),
        (STACK + 0x1E00, None, True),
        (STACK + 0x1C00, None, False),
        (OTHER + 0x0800, OTHER + 0x1000, True),  # the running thread's
        (OTHER + 0x0800, None, False),
        (STACK + 0x1C00, INTERRUPTS + 0x1000, True),  # an interrupt runs, nobody knows on top of what
        (STACK + 0x1C00, 0x7FFF_0000, True),  # the kernel has just been entered
        (INTERRUPTS + 0x1000, INTERRUPTS + 0x1800, True),
        (INTERRUPTS + 0x1000, OTHER + 0x1000, False),
        (INTERRUPTS + 0x1000, None, False),
        (FREED + 0x1000, OTHER + 0x1000, False),  # nobody's stack any more
        (0xC001_F000, OTHER + 0x1000, False),  # never a stack
    ],
)
def test_contexts_of_linux(place: int, sp: int | None, live: bool) -> None:
    words = {STACK: MARK, OTHER: MARK, FREED: MARK, INTERRUPTS: MARK}
    words |= {TASK + 8: STACK, TASK + 12: STACK + 0x1D00, TWIN + 8: OTHER, TWIN + 12: OTHER + 0x1900}
    assert may_resume(Words(words), Layout(8, 12, 0), [INTERRUPTS], place, sp) is live


def test_what_leads_into_a_ring_of_others_is_left_at_once() -> None:
    """A word of the first thread's may lead into a list that never comes back to it."""
    init, stack, other, name = TASK, STACK, TWIN, int.from_bytes(b"swap", "big")
    words = {stack: MARK, OTHER: MARK}
    for task, at, label in ((init, stack, name), (other, OTHER, int.from_bytes(b"udp\0", "big"))):
        words |= {task + 8: at, task + 12: at + 0x1D00, task + 16: label}
    words[init + 20] = int.from_bytes(b"per\0", "big")
    words |= {init + 24: other + 24, other + 24: init + 24}  # the list of all
    words |= {init + 28: other + 28, other + 28: other + 28}  # into a list of its own
    memory = Words(words)
    reads: list[int] = []

    def read(address: int, size: int) -> bytes | None:
        reads.append(address)
        return memory.read(address, size)

    assert {one.name for one in threads(read, init, 32, stack)} == {"swapper", "udp"}
    assert len(reads) < 100
