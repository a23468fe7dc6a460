"""The component on a bare 405 that fills its TLB in turns, as Linux does: nothing of ours stays in that."""

from __future__ import annotations

import os
import shutil
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from component.fake import Flat
from guests.kernels import link

from kgdbpatch.component import ComponentClient, layout
from kgdbpatch.component.layout import Op
from kgdbpatch.component.protocol import Command
from kgdbpatch.component.uninstall import changed, unmap, write_back
from kgdbpatch.cpu.ppc405 import Ppc405
from kgdbpatch.cpu.ppc405.family import STUB
from kgdbpatch.cpu.ppc405.state import ENTRIES, pages
from kgdbpatch.errors import MemoryFault, Refused
from kgdbpatch.vm.gdb import Debugger
from kgdbpatch.vm.machine import MachineDescription
from kgdbpatch.vm.qemu import Qemu
from kgdbpatch.vm.registers import GRegisters

from .lent import ARENA, MIB, grows, installed, left_in_a_call, planned, state, taken_out, word

_MISSING = [
    tool
    for tool in ("qemu-system-ppc", "gdb-multiarch", "powerpc-linux-gnu-as")
    if shutil.which(tool) is None
]
pytestmark = [
    pytest.mark.guest,
    pytest.mark.skipif(bool(_MISSING) and not os.environ.get("CI"), reason=f"not installed: {_MISSING}"),
]
COUNT, TICKS, MISSES = MIB, MIB + 4, MIB + 16
TABLE, SMALL = 2 * MIB, 3 * MIB
LOOP, DATA_MISS = 0x2200, 0x1100
TEXT = Path(__file__).with_name("bare_405.s").read_text("ascii")
# what the program's table says of the arena and of its near window, which it need not know of
PAGES = [
    (TABLE + 4 * (virtual >> 24), struct.pack(">I", physical | 0x300))
    for virtual, physical in ((0xD200_0000, 96 * MIB), (0xD300_0000, 112 * MIB), (0xFE00_0000, 112 * MIB))
]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("405") / "program"
    return link(TEXT, path, "-Wl,-Ttext=0x2000,--section-start=.handler=0x1000,-n")


@pytest.fixture
def guest(runtime: None, program: Path) -> Iterator[Qemu]:
    board = MachineDescription.load("ref405ep")
    with Qemu.start("bare-405", board, 128, ["-kernel", str(program)]) as qemu:
        goes_on(qemu)
        yield qemu


def goes_on(qemu: Qemu) -> None:
    for counter in (COUNT, TICKS, MISSES):
        grows(qemu, counter)


def test_patches_count_and_nothing_is_left_behind(guest: Qemu, debugger: Debugger, tmp_path: Path) -> None:
    cpu, text = Ppc405(), guest.ram.read(0, 0x3000)
    client = ComponentClient(guest, lambda: debugger, cpu, Flat(ARENA.physical))
    with pytest.raises(Refused, match="its own page tables") as refused:
        client.install(ARENA, "00" * 32, {})
    assert refused.value.rule == "mapping"
    held = guest.ram.read(ARENA.physical, ARENA.size)
    client, header, kept = installed(guest, debugger, cpu, ARENA, tmp_path, PAGES)
    client.apply(header, planned(guest, client, LOOP, LOOP + 4, arena=ARENA))
    goes_on(guest)
    with client.stop(header.arena):
        first, second = (record.hits for record in client.arena(ARENA).records())
        assert first > 100
        assert 0 <= first - second <= 1
    taken_out(client, header, {record.id for record in client.arena(ARENA).records()})
    unmap(client, cpu, guest.ram, header, kept)
    with debugger.stopped() as session:
        write_back(session.write_physical, changed(guest.ram, ARENA, kept))
    assert guest.ram.read(0, 0x3000) == text
    assert guest.ram.read(ARENA.physical, ARENA.size) == held
    goes_on(guest)


@pytest.mark.parametrize("steps", [0, 9])
def test_a_call_changes_nothing_wherever_the_kernel_is(guest: Qemu, debugger: Debugger, steps: int) -> None:
    """In a miss too: its page is in SRR0, SRR1 and DEAR, and the process that it is of in PID."""
    cpu, seen = Ppc405(), ("srr0", "srr1", "srr2", "srr3", "dear", "esr", "pid", "zpr")
    with debugger.stopped() as session:
        session.run_to_physical(DATA_MISS, 10)
        session.step(steps)
        session.set_register("pid", 0x35)
        session.write_physical(ARENA.physical + layout.STUB_OFFSET, cpu.code)
        cpu.leave_exception(session)
        before = session.registers() | {name: session.register(name) for name in seen}
        cpu.call(session, ARENA.physical, [state()])
        assert session.registers() | {name: session.register(name) for name in seen} == before
        session.set_register("pid", 0)
    goes_on(guest)


def test_what_the_tlb_maps_is_what_the_cpu_reads(guest: Qemu, debugger: Debugger) -> None:
    cpu, at = Ppc405(), ARENA.physical
    with debugger.stopped() as session:
        session.run_to(LOOP, 10)
        session.write_physical(at + layout.STUB_OFFSET, cpu.code)
        cpu.call(session, at, [state()])
        known = np.frombuffer(session.read_physical(at + layout.STATE_OFFSET, cpu.state.itemsize), cpu.state)[
            0
        ]
        assert len(known["tlb"]) == ENTRIES
        assert {page.size for page in pages(known)} == {4096, 16 * MIB}
        read = set()
        for number in range(64):
            virtual = 0x4000_0000 + 4096 * number
            session.write_physical(SMALL + 4096 * number, struct.pack(">I", 0x600D_0000 + number))
            try:
                data = session.read(virtual, 4)
            except MemoryFault:
                assert cpu.translate(known, guest.ram, virtual) is None
            else:
                assert cpu.translate(known, guest.ram, virtual + 8) == SMALL + 4096 * number + 8
                assert data == struct.pack(">I", 0x600D_0000 + number)
                read.add(number)
        assert 50 < len(read) < 64
        for name in ("pvr", "srr0", "srr1", "srr2", "srr3", "pid", "zpr", "evpr"):
            assert int(known[name]) == session.register(name), name


def test_a_call_is_completed_when_its_client_has_died(
    guest: Qemu, debugger: Debugger, monkeypatch: pytest.MonkeyPatch
) -> None:
    cpu, at = Ppc405(), ARENA.physical
    with debugger.stopped() as session:
        session.run_to_physical(DATA_MISS, 10)  # the stub goes home into the miss, whose SRR0 it leaves alone
        session.write_physical(at + layout.STUB_OFFSET, cpu.code)
        orders = [Command(Op.STORE, at, 0x600D_0001), Command(Op.STORE, at + 4, 0x600D_0002)]
        left_in_a_call(session, STUB, orders, monkeypatch)
    goes_on(guest)  # the stub went home by itself
    assert [word(guest, at), word(guest, at + 4)] == [0x600D_0001, 0x600D_0002]
    with debugger.stopped() as session:
        saved = session.read_all()
        left_in_a_call(session, STUB, [Command(Op.STORE, at, 0x600D_0003)], monkeypatch)
        assert cpu.in_call(GRegisters(session.read_all()), at)
        cpu.finish_call(session, at)  # another client's
        assert session.read_all() == saved
    goes_on(guest)
    assert word(guest, at) == 0x600D_0003
