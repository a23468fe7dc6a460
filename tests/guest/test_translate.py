"""Our translation of kernel addresses is QEMU's own."""

from __future__ import annotations

import random

import numpy as np
import pytest

from kgdbpatch.component import layout
from kgdbpatch.component.protocol import Command
from kgdbpatch.cpu.ppc6xx import Ppc6xx
from kgdbpatch.cpu.ppc6xx.translate import PAGE, translate
from kgdbpatch.errors import MemoryFault
from kgdbpatch.kernel import Kernel
from kgdbpatch.personality.base import Window


def addresses(kernel: Kernel) -> list[int]:
    """Return pages of the image, of the arena and its window, and any others."""
    rng = random.Random(7)
    arena = kernel.header.arena
    pages = [
        rng.randrange(s.address, s.address + s.size) for s in kernel.image.sections if s.address and s.size
    ] * 4
    pages += [arena.virtual + rng.randrange(arena.size) for _ in range(20)]
    pages += [segment << 28 | rng.randrange(1 << 28) for segment in range(16) for _ in range(20)]
    pages += [0, 0x1000, 0x1FFC, 0x2000, 0x1500_0000, 0x4000_0000, 0x8000_0000, 0xFFFF_F000]
    return [page & ~(PAGE - 1) for page in pages]


@pytest.mark.parametrize(
    "profile",
    [
        pytest.param("darwin", marks=pytest.mark.kernel("darwin")),
        pytest.param("linux", marks=[pytest.mark.kernel("linux"), pytest.mark.linux]),
    ],
)
def test_it_maps_what_qemu_maps(kernel: Kernel, profile: str) -> None:
    cpu, at, ram = Ppc6xx(), kernel.header.arena.physical, kernel.qemu.ram
    mapped, fetched = 0, kernel.header.arena.near or Window(0, 0)
    with kernel.stopped() as session:
        while session.registers()["msr"] & 0x4030 != 0x30:  # QEMU's debugger reads as the running code may
            session.resume()
            session.interrupt()
        cpu.leave_exception(session)
        cpu.call(session, at, [Command(layout.Op.STATE, at + layout.STATE_OFFSET)])
        state = np.frombuffer(ram.read(at + layout.STATE_OFFSET, cpu.state.itemsize), cpu.state)[0]
        for address in addresses(kernel):
            ours = translate(state, ram, address)
            try:
                theirs = session.read(address, PAGE)
            except MemoryFault:
                assert ours is None, hex(address)
                continue
            if ours is None and fetched.start <= address < fetched.end:
                continue  # by a BAT for instructions alone, which QEMU's debugger asks next
            assert ours is not None, hex(address)
            if ours < ram.size:
                assert ram.read(ours, PAGE) == theirs, hex(address)
                mapped += 1
    assert mapped > 20


def test_memory_that_is_not_mapped(kernel: Kernel) -> None:
    with pytest.raises(MemoryFault, match="0x00000000") as error:
        kernel.read_virtual(0, 4)
    assert error.value.address == 0
    end = kernel.header.arena.virtual + kernel.header.arena.size
    with pytest.raises(MemoryFault) as error:
        kernel.read_virtual(end - 4, 8)
    assert error.value.address == end
