"""A guest that is put back to a snapshot goes on as it did from there."""

from __future__ import annotations

import re

from kgdbpatch.component import layout
from kgdbpatch.component.arena import field_offset
from kgdbpatch.component.layout import Op
from kgdbpatch.component.protocol import Command
from kgdbpatch.cpu.ppc6xx.state import STATE
from kgdbpatch.guests import Recipe
from kgdbpatch.kernel import Kernel

from .parts import client

TICK = Recipe.find("darwin").machine.timebase_hz // 100


def decrementer(kernel: Kernel) -> int:
    found = re.search(r"DECR (\d+)", kernel.qemu.hmp("info registers"))
    assert found is not None
    return int(found[1])


def run(kernel: Kernel, seconds: int) -> int:
    """Let the guest print ``seconds`` self-checks; return the number in the last one."""
    for _ in range(seconds):
        line = kernel.log.wait("selfcheck", deadline=30, since=kernel.log.position())
    return int(line.message.split()[1])


def test_the_clock_ticks_after_a_restore(kernel: Kernel) -> None:
    kernel.snapshot("early")
    run(kernel, 4)
    kernel.pause()
    kernel.restore("early")
    kernel.pause()
    assert decrementer(kernel) <= TICK or decrementer(kernel) >= 1 << 31  # due, or just past
    kernel.resume()
    run(kernel, 1)


def test_a_restore_brings_memory_and_patches_back(kernel: Kernel) -> None:
    applied = kernel.patch("run_netisr", asm="nop", count=True)
    kernel.snapshot("patched")
    reached = run(kernel, 3)
    applied.remove()
    assert kernel.patches == []
    kernel.restore("patched")
    assert [(patch.id, patch.state) for patch in kernel.patches] == [(applied.id, "active")]
    assert kernel.verify().ok
    assert run(kernel, 1) < reached
    kernel.remove_all()
    verified = kernel.verify()
    assert (verified.ok, verified.patched) == (True, 0)


def test_a_tick_that_was_due_comes(kernel: Kernel) -> None:
    """The decrementer is below 0 when its interrupt has not been taken yet, which QEMU does not save."""
    header = kernel.header
    with client(kernel) as component, component.stop(header.arena) as stop:
        stop.call([Command(Op.DECREMENTER, 100)])
        at = header.arena.physical + layout.STATE_OFFSET
        dec = at + field_offset("dec", STATE)
        stop.call([Command(Op.STATE, at)])
        while not kernel.qemu.ram.read(dec, 1)[0] >> 7:
            stop.call([Command(Op.STATE, at)])
        kernel.qemu.savevm("due")
        kernel.qemu.loadvm("due")  # QEMU by itself has forgotten the interrupt now
    for _ in range(2):
        kernel.restore("due")
        line = kernel.log.wait("selfcheck", deadline=30, since=kernel.log.position())
        assert line.message.rstrip().endswith(" 0 bad")
