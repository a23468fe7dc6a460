"""What tests of bare programs on CPUs of Book E, and a 405, share: the arena, patches, calls left behind."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from component.fake import Flat
from guests.kernels import link

from kgdbpatch.component import ComponentClient, Header, layout
from kgdbpatch.component.layout import Op
from kgdbpatch.component.ports import Cpu
from kgdbpatch.component.protocol import Command
from kgdbpatch.component.uninstall import Before
from kgdbpatch.cpu.stub import Stub
from kgdbpatch.isa.abi import SYSV
from kgdbpatch.isa.decode import decode
from kgdbpatch.patch.payload import count_payload
from kgdbpatch.patch.plan import Plan, plan
from kgdbpatch.patch.site import Site
from kgdbpatch.personality.base import ArenaPlan, Window
from kgdbpatch.vm.gdb import Debugger, Session
from kgdbpatch.vm.qemu import Qemu
from kgdbpatch.vm.registers import GRegisters

__all__ = [
    "ARENA",
    "MIB",
    "grows",
    "installed",
    "left_in_a_call",
    "made",
    "planned",
    "state",
    "taken_out",
    "word",
]

MIB = 1 << 20
ARENA = ArenaPlan(96 * MIB, 32 * MIB, 0xD200_0000, None, Window(0xFE00_0000, 0xFF00_0000))
FREE = frozenset({"r9", "r10", "r11", "r12", "ctr", "cr0", "lr"})


def made(text: str, path: Path) -> Path:
    """Make a program: its handlers from 0x900 on, the rest from 0x1000 on."""
    return link(text, path, "-Wl,-Ttext=0x1000,--section-start=.handler=0x900,-n")


def word(qemu: Qemu, at: int) -> int:
    return int.from_bytes(qemu.ram.read(at, 4), "big")


def grows(qemu: Qemu, at: int) -> None:
    """Wait until a counter of the program's has changed three times."""
    for _ in range(3):
        before = word(qemu, at)
        while word(qemu, at) == before:
            assert qemu.alive()


def planned(
    qemu: Qemu, client: ComponentClient, *sites: int, arena: ArenaPlan = ARENA
) -> list[tuple[int, Plan]]:
    allocator, found = client.arena(arena).allocator(), []
    for at in sites:
        place = allocator.peek()
        site = Site(decode(word(qemu, at), at), FREE, FREE, SYSV)
        counts = plan(site, count_payload(), allocator.near(place) or place)
        found.append((allocator.claim(counts), counts))
    return found


def taken_out(client: ComponentClient, header: Header, ids: set[int]) -> None:
    """Remove patches, and wait until the program has left them."""
    held = client.remove(header, client.arena(header.arena).table(), ids)
    while held:
        with client.stop(header.arena) as stop:
            held = client.collect(header, stop)


def state(arena: ArenaPlan = ARENA) -> Command:
    return Command(Op.STATE, arena.physical + layout.STATE_OFFSET)


class Died(Exception):
    pass


def left_in_a_call(
    session: Session,
    stub: Stub,
    orders: list[Command],
    monkeypatch: pytest.MonkeyPatch,
    arena: ArenaPlan = ARENA,
) -> None:
    """Have a client die when it has given the CPU away."""
    saved, give = session.read_all(), session.write_all

    def dies(address: int, deadline: float) -> GRegisters:
        raise Died

    def write_all(raw: bytes, *, later: bool = False) -> None:
        if raw != saved:  # nobody gives the registers back
            give(raw, later=later)

    with monkeypatch.context() as changed_session:
        changed_session.setattr(session, "run_to_physical", dies)
        changed_session.setattr(session, "write_all", write_all)
        with pytest.raises(Died):
            stub.call(session, arena.physical, orders)


def installed(
    guest: Qemu,
    debugger: Debugger,
    cpu: Cpu,
    arena: ArenaPlan,
    directory: Path,
    pages: Sequence[tuple[int, bytes]] = (),
) -> tuple[ComponentClient, Header, Before]:
    """Install the component; return its client, its header, and what was there before.

    ``pages`` are what goes into the program's own page table.
    """
    kept = Before(directory)
    with debugger.stopped() as session:
        kept.keep(guest.ram, arena, cpu.page_table(session))
    client = ComponentClient(guest, lambda: debugger, cpu, Flat(arena.physical))
    header = client.install(arena, "00" * 32, {}, pages)
    kept.keep_state(client.state(header.arena).tobytes())
    return client, header, kept
