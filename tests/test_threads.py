"""Which parts of kernel stacks no thread comes back to."""

from __future__ import annotations

import pytest

from kgdbpatch.guests.profile import Thread, Window
from kgdbpatch.target.registers import GRegisters
from kgdbpatch.threads import below_sleepers

THREADS = [
    Thread("one", Window(0x1000, 0x3000), 0x2F00),
    Thread("two", Window(0x4000, 0x6000), 0x4800),
    Thread("torn", Window(0x8000, 0xA000), 0x4800),  # its stack pointer is in another one's stack
]
USER, KERNEL = 0xD032, 0x9032


@pytest.mark.parametrize(
    ("msr", "r1", "dead"),
    [
        (KERNEL, 0x2E00, [(0x4000, 0x4800)]),
        (KERNEL, 0x1000, [(0x4000, 0x4800)]),
        (KERNEL, 0x3000, []),  # no thread's: an interrupt's stack, say
        (KERNEL, 0x4400, [(0x1000, 0x2F00)]),
        (USER, 0x4400, [(0x1000, 0x2F00), (0x4000, 0x4800)]),
    ],
)
def test_below_sleepers(msr: int, r1: int, dead: list[tuple[int, int]]):
    registers = GRegisters(bytes(GRegisters.SIZE))
    registers["msr"], registers["r1"] = msr, r1
    assert below_sleepers(THREADS, registers) == [Window(*part) for part in dead]
