"""The component on a bare e500: its place to run, the arena's mapping, patches, and all of it undone.

QEMU's own dump of the TLB is what it is compared with.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from kgdbpatch.component import layout
from kgdbpatch.component.layout import Op
from kgdbpatch.component.protocol import Command, StubFailed
from kgdbpatch.component.uninstall import changed, unmap, write_back
from kgdbpatch.cpu.booke import E500
from kgdbpatch.cpu.booke.stub import STUB
from kgdbpatch.cpu.booke.tlb import Entry
from kgdbpatch.errors import Refused, TargetTimeout
from kgdbpatch.vm.gdb import Debugger
from kgdbpatch.vm.machine import MachineDescription
from kgdbpatch.vm.qemu import Qemu
from kgdbpatch.vm.registers import GRegisters

from .lent import ARENA, MIB, grows, installed, left_in_a_call, made, planned, state, taken_out, word

_MISSING = [
    tool
    for tool in ("qemu-system-ppc", "gdb-multiarch", "powerpc-linux-gnu-as")
    if shutil.which(tool) is None
]
pytestmark = [
    pytest.mark.guest,
    pytest.mark.skipif(bool(_MISSING) and not os.environ.get("CI"), reason=f"not installed: {_MISSING}"),
]
COUNT, TICKS, LOOP = MIB, MIB + 4, 0x1100
# at 0x900 the handler, at 0x1000 the program; both are within what QEMU maps at the start
TEXT = """
    .section .handler, "ax"
    mtspr 272,7
    lwz 7,4(4)
    addi 7,7,1
    stw 7,4(4)
    lis 7,0x800
    mtspr 336,7                 # TSR[DIS]: it is done with
    mfspr 7,272
    rfi
    .text
    .globl _start
_start:
    li 3,0
    mtspr 63,3                  # IVPR
    li 5,0x900
    mtspr 410,5                 # IVOR10: the decrementer's interrupt
    lis 5,1
    mtspr 54,5                  # DECAR
    mtspr 22,5                  # DEC
    lis 5,0x440
    mtspr 340,5                 # TCR[DIE, ARE]
    lis 4,0x10
    lis 5,2
    ori 5,5,0x8000              # MSR[CE, EE]
    mtmsr 5
    b loop
    .long 0x7c0007a4            # tlbwe, as kernels have one near their handlers
    .balign 0x100
loop:
    addi 3,3,1
    stw 3,0(4)
    b loop
"""
PAGE = re.compile(r"^0x(\w+) 0x(\w+) +(\d+)([KMG]) \d+ +(\d) ", re.MULTILINE)
UNITS = {"K": 1 << 10, "M": MIB, "G": 1 << 30}


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(TEXT, tmp_path_factory.mktemp("e500") / "program")


@pytest.fixture(
    params=["qemu-system-ppc", pytest.param("qemu-system-ppc64", marks=pytest.mark.soak)],
)
def guest(runtime: None, program: Path, request: pytest.FixtureRequest) -> Iterator[Qemu]:
    board = replace(MachineDescription.load("ppce500"), binary=request.param)
    with Qemu.start("bare-e500", board, 128, ["-kernel", str(program)]) as qemu:
        grows(qemu, TICKS)
        yield qemu


@pytest.fixture
def debugger(guest: Qemu) -> Iterator[Debugger]:
    with Debugger(guest) as debugger:
        yield debugger


def wired(qemu: Qemu) -> set[Entry]:
    """Return what QEMU says that TLB1 holds."""
    text = qemu.hmp("info tlb").replace("\r", "").partition("TLB1:")[2]
    return {
        Entry(int(virtual, 16), int(physical, 16), int(size) * UNITS[unit], bool(int(space)))
        for virtual, physical, size, unit, space in PAGE.findall(text)
    }


def test_patches_count_and_nothing_is_left_behind(guest: Qemu, debugger: Debugger, tmp_path: Path) -> None:
    cpu, before, text = E500(), wired(guest), guest.ram.read(0x900, 0x1000)
    client, header, kept = installed(guest, debugger, cpu, ARENA, tmp_path)
    ours = {
        Entry(0xD200_0000, 96 * MIB, 16 * MIB),
        Entry(0xD300_0000, 112 * MIB, 16 * MIB),
        Entry(0xFE00_0000, 112 * MIB, 16 * MIB),
    }
    place = Entry(0, 0, 1 << 30, other_space=True)  # where the component runs
    assert wired(guest) == before | ours | {place}
    for _ in range(2):
        ids = client.apply(header, planned(guest, client, LOOP, LOOP + 4))
        grows(guest, TICKS)
        taken_out(client, header, set(ids))
        assert guest.ram.read(LOOP, 12) == text[LOOP - 0x900 : LOOP - 0x900 + 12]
    client.apply(header, planned(guest, client, LOOP, LOOP + 4))
    grows(guest, COUNT)
    with client.stop(header.arena):
        first, second = (record.hits for record in client.arena(ARENA).records())
        assert first > 100
        assert 0 <= first - second <= 1
    taken_out(client, header, {record.id for record in client.arena(ARENA).records()})
    unmap(client, cpu, guest.ram, header, kept)
    assert wired(guest) == before | {place}
    with debugger.stopped() as session:
        cpu.release(session, ARENA.physical)
        write_back(session.write_physical, changed(guest.ram, ARENA, kept))
    assert wired(guest) == before
    assert guest.ram.read(0x900, 0x1000) == text
    assert not any(guest.ram.read(ARENA.physical, 0x100_0000))
    grows(guest, TICKS)
    grows(guest, COUNT)


def test_what_an_exception_has_left_in_its_registers_stays(guest: Qemu, debugger: Debugger) -> None:
    """The CPU may be stopped at a handler's first instruction, and in a miss, whose words are in MAS."""
    cpu, seen = E500(), ("srr0", "srr1", "mas0", "mas1", "mas2", "mas3", "mas7")
    with debugger.stopped() as session:
        session.run_to(0x900, 10)
        for number, name in enumerate(seen[2:]):
            session.set_register(name, (0x1234_5678 + number) & 0xFFFF_F000)
        before = session.registers() | {name: session.register(name) for name in seen}
        session.write_physical(ARENA.physical + layout.STUB_OFFSET, cpu.code)
        for _ in range(2):  # the first makes the component's place
            cpu.call(session, ARENA.physical, [state()])
            assert session.registers() | {name: session.register(name) for name in seen} == before
    grows(guest, TICKS)


def test_a_kernel_that_lets_no_critical_interrupt_in_can_be_lent_from_anywhere(
    guest: Qemu, debugger: Debugger
) -> None:
    """Its interrupts are off for long at times: CSRR1 tells that it is in no critical handler."""
    cpu = E500()
    with debugger.stopped() as session:
        session.run_to(LOOP, 10)
        saved, kept = session.read_all(), session.register("csrr1")
        for msr, left, stays in (
            (0x1000, 0x9000, True),
            (0x2_1000, 0x2_9000, True),
            (0x1000, 0x2_9000, False),
        ):
            registers = GRegisters(saved)
            registers["msr"] = msr
            session.write_all(registers.raw)
            session.set_register("csrr1", left)
            with (
                nullcontext() if stays else pytest.raises(TargetTimeout, match="critical interrupts are off")
            ):
                cpu.leave_exception(session)
            assert (session.read_all() == registers.raw) is stays
        session.set_register("csrr1", kept)
        session.write_all(saved)
    grows(guest, TICKS)


def test_a_call_is_completed_when_its_client_has_died(
    guest: Qemu, debugger: Debugger, monkeypatch: pytest.MonkeyPatch
) -> None:
    cpu, at = E500(), ARENA.physical
    with debugger.stopped() as session:
        session.write_physical(at + layout.STUB_OFFSET, cpu.code)
        cpu.call(session, at, [state()])
        orders = [Command(Op.STORE, at, 0x600D_0001), Command(Op.STORE, at + 4, 0x600D_0002)]
        left_in_a_call(session, STUB, orders, monkeypatch)
    grows(guest, COUNT)  # the stub went home by itself
    assert [word(guest, at), word(guest, at + 4)] == [0x600D_0001, 0x600D_0002]
    with debugger.stopped() as session:
        saved = session.read_all()
        left_in_a_call(session, STUB, [Command(Op.STORE, at, 0x600D_0003)], monkeypatch)
        assert cpu.in_call(GRegisters(session.read_all()), at)
        cpu.finish_call(session, at)  # another client's
        assert session.read_all() == saved
    grows(guest, TICKS)
    assert word(guest, at) == 0x600D_0003


def test_an_entry_of_the_kernels_is_not_overwritten(guest: Qemu, debugger: Debugger) -> None:
    cpu, at, before = E500(), ARENA.physical, wired(guest)
    with debugger.stopped() as session:
        session.write_physical(at + layout.STUB_OFFSET, cpu.code)
        cpu.call(session, at, [state()])
        known = np.frombuffer(session.read_physical(at + layout.STATE_OFFSET, cpu.state.itemsize), cpu.state)
        theirs = next(n for n, words in enumerate(known[0]["tlb1"]) if words[0] >> 31)
        order = Entry(0xD200_0000, at, 16 * MIB).command(theirs)
        with pytest.raises(StubFailed, match="could not do tlb"):
            cpu.call(session, at, [order])
        taken = replace(ARENA, virtual=0)  # where the program itself is
        with pytest.raises(Refused, match="TLB1 of the kernel maps 0x00000000"):
            cpu.check_unmapped(taken, known[0], guest.ram)
        assert cpu.translate(known[0], guest.ram, 0x1234) == 0x1234
        assert cpu.translate(known[0], guest.ram, 0xD200_0000) is None
    assert wired(guest) >= before


def test_a_kernel_without_a_way_to_the_tlb_is_refused_unchanged(guest: Qemu, debugger: Debugger) -> None:
    cpu = E500()
    with debugger.stopped() as session:
        session.set_register("ivpr", 0x20_0000)  # nothing is there
        before = session.registers()
        session.write_physical(ARENA.physical + layout.STUB_OFFSET, cpu.code)
        with pytest.raises(Refused, match="no tlbwe from 0x00200000 on") as refused:
            cpu.call(session, ARENA.physical, [state()])
        assert refused.value.rule == "mapping"
        assert session.registers() == before
        session.set_register("ivpr", 0)
    grows(guest, TICKS)
