"""Kernel stacks that lie in memory mapped page by page: they are found, and which parts of them are dead."""

from __future__ import annotations

import re

import pytest

from kgdbpatch.kernel import Kernel
from kgdbpatch.vm.gdb import GRegisters, Session

from .parts import threads

pytestmark = [pytest.mark.kernel("linux"), pytest.mark.linux]
TASK = re.compile(r"task:(\S+) +state:")
EE, PR = 0x8000, 0x4000


def own_names(names: set[str]) -> set[str]:
    """Return the names less those of threads that the kernel makes and ends as it likes."""
    return {name for name in names if not name.startswith("kworker")}


def test_the_threads_are_those_that_the_kernel_lists(kernel: Kernel) -> None:
    position = kernel.log.position()
    kernel.send("write /proc/sysrq-trigger t\n")
    kernel.log.wait(r"^done write", since=position, deadline=120)
    lines = [line.message for line in kernel.log.lines(since=position)]
    told = {match[1] for line in lines if (match := TASK.match(line))}
    found = {thread.name for thread in threads(kernel).all()}
    assert len(told) > 20
    assert own_names(found) - {"swapper", "swapper/0"} == own_names(told)


def stop_on_a_threads_stack(kernel: Kernel, session: Session) -> int | None:
    """Let the guest go on until the CPU is where it can tell whose stack it is on; return its pointer."""
    known = [one.stack for one in threads(kernel).all()]
    while True:
        registers = session.registers()
        if registers["msr"] & PR:
            return None
        sp = registers["r1"]
        if registers["msr"] & EE and any(stack.start <= sp < stack.end for stack in known):
            return sp
        session.resume()
        session.interrupt()


def test_memory_that_only_the_kernels_own_page_tables_map_is_read(kernel: Kernel) -> None:
    """What nobody has looked at yet is not in the CPU's hashed page table."""
    arena = kernel.header.arena
    assert arena.near is not None
    assert arena.paged
    for at in range(arena.near.end - 4, arena.near.start, -(5 << 20)):
        physical = at - arena.near.end + arena.physical + arena.size
        assert kernel.read_virtual(at, 4) == kernel.qemu.ram.read(physical, 4)


def test_only_what_a_sleeper_has_left_is_dead(kernel: Kernel) -> None:
    """Of each thread's stack what is above its stack pointer is alive, wherever in RAM its pages are."""
    memory, shift = threads(kernel), kernel.image.code_sections()[0].address
    with kernel.stopped() as session:
        sp = stop_on_a_threads_stack(kernel, session)
        registers = GRegisters(session.read_all())
        sleepers = [
            thread
            for thread in memory.all()
            if (sp is None or not thread.stack.start <= sp < thread.stack.end)
            and thread.sp - thread.stack.start > 1024
            and memory.physical(thread.stack.start) != thread.stack.start - shift
        ]
        assert len(sleepers) > 20
        for thread in sleepers[::10]:
            live, dead = memory.physical(thread.sp + 16), memory.physical(thread.stack.start + 512)
            assert live is not None
            assert dead is not None
            assert memory.may_resume([(live, 1), (dead, 2)], registers) == [1], thread
