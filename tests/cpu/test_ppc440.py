"""The component on a bare 440 that fills its TLB in turns, as Linux does, and empties it at times.

QEMU's own dump of the TLB is what it is compared with.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from component.fake import Flat

from kgdbpatch.component import ComponentClient, layout
from kgdbpatch.component.layout import Op
from kgdbpatch.component.protocol import Command, StubFailed
from kgdbpatch.component.uninstall import changed, unmap, write_back
from kgdbpatch.cpu.booke import Ppc440
from kgdbpatch.cpu.booke.stub import STUB_440
from kgdbpatch.cpu.booke.tlb import Entry, Entry440
from kgdbpatch.cpu.msr import EE
from kgdbpatch.errors import Refused, TargetTimeout
from kgdbpatch.vm.gdb import Debugger
from kgdbpatch.vm.machine import MachineDescription
from kgdbpatch.vm.qemu import Qemu
from kgdbpatch.vm.registers import GRegisters

from . import lent
from .lent import MIB, grows, installed, left_in_a_call, made, planned, taken_out, word

_MISSING = [
    tool
    for tool in ("qemu-system-ppc", "gdb-multiarch", "powerpc-linux-gnu-as")
    if shutil.which(tool) is None
]
pytestmark = [
    pytest.mark.guest,
    pytest.mark.skipif(bool(_MISSING) and not os.environ.get("CI"), reason=f"not installed: {_MISSING}"),
]
ARENA = replace(lent.ARENA, physical=256 * MIB)  # in the second of the largest pages
COUNT, TICKS, NEXT, LAST, MISSES, EMPTIED, NAPS = (MIB + 4 * n for n in range(7))
LOOP = 0x1200
TEXT = Path(__file__).with_name("bare_440.s").read_text("ascii")
LINE = re.compile(r"^0x(\w+) 0x(\w+) +(\d+)([kM]) +(\d+) +(\w+) (\w+)", re.MULTILINE)
UNITS = {"k": 1 << 10, "M": MIB}


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(TEXT, tmp_path_factory.mktemp("440") / "program")


@pytest.fixture
def guest(runtime: None, program: Path) -> Iterator[Qemu]:
    board = MachineDescription.load("bamboo")
    with Qemu.start("bare-440", board, 288, ["-kernel", str(program)]) as qemu:
        goes_on(qemu)
        yield qemu


def goes_on(qemu: Qemu) -> None:
    for counter in (TICKS, COUNT, MISSES, EMPTIED):
        grows(qemu, counter)


def wired(qemu: Qemu) -> set[Entry]:
    """Return what QEMU says that the TLB holds, but for what the program fills in turns, or takes out.

    QEMU's `tlbsx` finds entries of the other address space, too.
    """
    found = {
        Entry(int(virtual, 16), int(physical, 16), int(size) * UNITS[unit], bool(int(attributes, 16) & 1))
        for virtual, physical, size, unit, _, _, attributes in LINE.findall(
            qemu.hmp("info tlb").replace("\r", "")
        )
    }
    return {page for page in found if page.size > 4096} - {Entry(256 * MIB, 256 * MIB, 256 * MIB, True)}


def test_patches_count_and_nothing_is_left_behind(guest: Qemu, debugger: Debugger, tmp_path: Path) -> None:
    cpu, before, text = Ppc440(), wired(guest), guest.ram.read(0x900, 0x1000)
    assert before == {Entry(0, 0, 256 * MIB)}
    client, header, kept = installed(guest, debugger, cpu, ARENA, tmp_path)
    ours = {
        Entry(0xD200_0000, 256 * MIB, 16 * MIB),
        Entry(0xD300_0000, 272 * MIB, 16 * MIB),
        Entry(0xFE00_0000, 272 * MIB, 16 * MIB),
    }
    place = Entry(0, 0, 256 * MIB, other_space=True)  # where the component runs
    assert wired(guest) == before | ours | {place}
    assert word(guest, LAST) == 52
    own = cpu.changed_text(guest.ram, ARENA.physical)
    assert sorted(own.values()) == [0x2C0D_003E] * 2
    assert {word(guest, at) for at in own} == {0x2C0D_0034}
    for _ in range(2):
        ids = client.apply(header, planned(guest, client, LOOP, LOOP + 4, arena=ARENA))
        goes_on(guest)
        taken_out(client, header, set(ids))
        assert guest.ram.read(LOOP, 12) == text[LOOP - 0x900 : LOOP - 0x900 + 12]
    client.apply(header, planned(guest, client, LOOP, LOOP + 4, arena=ARENA))
    goes_on(guest)
    with client.stop(header.arena):
        first, second = (record.hits for record in client.arena(ARENA).records())
        assert first > 100
        assert 0 <= first - second <= 1
    assert wired(guest) == before | ours | {place}
    taken_out(client, header, {record.id for record in client.arena(ARENA).records()})
    unmap(client, cpu, guest.ram, header, kept)
    assert wired(guest) == before | {place}
    with debugger.stopped() as session:
        cpu.release(session, ARENA.physical)
        write_back(session.write_physical, changed(guest.ram, ARENA, kept))
    assert wired(guest) == before
    assert guest.ram.read(0x900, 0x1000) == text
    assert word(guest, LAST) == 62
    assert not any(guest.ram.read(ARENA.physical, 0x100_0000))
    goes_on(guest)


@pytest.mark.parametrize(
    "at", [0xC00, *(pytest.param(at, marks=pytest.mark.soak) for at in (0xA00, 0x108C, 0x1098))]
)
def test_it_is_put_in_wherever_the_kernel_is(guest: Qemu, debugger: Debugger, at: int) -> None:
    """In a miss, whose TID is in MMUCR, and while the TLB is emptied: entries chosen before may be ours."""
    cpu, seen = Ppc440(), ("srr0", "srr1", "mmucr", "dear")
    with debugger.stopped() as session:
        session.run_to(at, 10)
        if at < 0x1000:
            session.step(12)
        session.set_register("mmucr", 0x35)
        kept = session.register("srr0"), session.register("dear")
        session.write_physical(ARENA.physical + layout.STUB_OFFSET, cpu.code)
        cpu.call(session, ARENA.physical, [lent.state(ARENA)])
        assert (session.register("srr0"), session.register("dear")) == kept or at > 0x1000
        before = session.registers() | {name: session.register(name) for name in seen}
        cpu.call(session, ARENA.physical, [lent.state(ARENA)])
        assert session.registers() | {name: session.register(name) for name in seen} == before
        session.set_register("mmucr", 0)
    place = Entry(0, 0, 256 * MIB, other_space=True)
    for _ in range(3):
        goes_on(guest)
        assert place in wired(guest)


@pytest.mark.soak
def test_a_call_is_completed_when_its_client_has_died(
    guest: Qemu, debugger: Debugger, monkeypatch: pytest.MonkeyPatch
) -> None:
    cpu, at = Ppc440(), ARENA.physical
    with debugger.stopped() as session:
        session.write_physical(at + layout.STUB_OFFSET, cpu.code)
        cpu.call(session, at, [lent.state(ARENA)])
        orders = [Command(Op.STORE, at, 0x600D_0001), Command(Op.STORE, at + 4, 0x600D_0002)]
        left_in_a_call(session, STUB_440, orders, monkeypatch, ARENA)
    goes_on(guest)  # the stub went home by itself
    assert [word(guest, at), word(guest, at + 4)] == [0x600D_0001, 0x600D_0002]
    with debugger.stopped() as session:
        cpu.call(session, at, [lent.state(ARENA)])
        saved = session.read_all()
        left_in_a_call(session, STUB_440, [Command(Op.STORE, at, 0x600D_0003)], monkeypatch, ARENA)
        assert cpu.in_call(GRegisters(session.read_all()), at)
        cpu.finish_call(session, at)  # another client's
        assert session.read_all() == saved
    goes_on(guest)
    assert word(guest, at) == 0x600D_0003


def test_a_place_that_was_only_begun_is_made(
    guest: Qemu, debugger: Debugger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client dies with the first entry made: it is there, and sooner or later the kernel takes it out."""
    cpu, at = Ppc440(), ARENA.physical

    def dies(*_: object) -> list[int]:
        raise KeyboardInterrupt

    with debugger.stopped() as session:
        session.write_physical(at + layout.STUB_OFFSET, cpu.code)
        with monkeypatch.context() as dead:
            dead.setattr(type(STUB_440), "call", dies)
            with pytest.raises(KeyboardInterrupt):
                cpu.call(session, at, [lent.state(ARENA)])
        assert not cpu.is_open(session, at)
        cpu.call(session, at, [lent.state(ARENA)])
        assert cpu.is_open(session, at)
        lowered = word(guest, LAST)
    goes_on(guest)
    with debugger.stopped() as session:
        cpu.call(session, at, [lent.state(ARENA)])
        assert cpu.is_open(session, at)
    assert word(guest, LAST) == lowered == 52


@pytest.mark.soak
def test_an_entry_of_the_kernels_is_not_overwritten(guest: Qemu, debugger: Debugger) -> None:
    cpu, at, before = Ppc440(), ARENA.physical, wired(guest)
    with debugger.stopped() as session:
        session.write_physical(at + layout.STUB_OFFSET, cpu.code)
        cpu.call(session, at, [lent.state(ARENA)])
        known = np.frombuffer(session.read_physical(at + layout.STATE_OFFSET, cpu.state.itemsize), cpu.state)
        order = Entry440(0xD200_0000, at, 16 * MIB).command(63)
        with pytest.raises(StubFailed, match="could not do tlb"):
            cpu.call(session, at, [order])
        assert cpu.wired(known[0])[63] == Entry(0, 0, 256 * MIB)
        assert cpu.translate(known[0], guest.ram, 0x1234) == 0x1234
        assert cpu.translate(known[0], guest.ram, 0xD200_0000) is None
    assert wired(guest) >= before


def test_an_interrupted_round_over_the_tlb_is_waited_for(guest: Qemu, debugger: Debugger) -> None:
    """It goes on to the entry up to which it was to go when it began."""
    cpu, at = Ppc440(), ARENA.physical
    with debugger.stopped() as session:
        session.run_to(0x1090, 10)
        entered = GRegisters(session.read_all())
        session.set_register("srr0", entered["pc"])
        session.set_register("srr1", entered["msr"])
        entered["pc"], entered["msr"] = 0x900, entered["msr"] & ~EE
        session.write_all(entered.raw)  # as the clock has it
        session.write_physical(at + layout.STUB_OFFSET, cpu.code)
        cpu.call(session, at, [lent.state(ARENA)])
        assert GRegisters(session.read_all())["pc"] == 0x109C
    goes_on(guest)
    with debugger.stopped() as session:
        assert cpu.is_there(session, at)
        cpu.release(session, at)
        session.run_to(0x1090, 10)
        deep = GRegisters(session.read_all())
        stack = MIB + 0x1000  # a frame in which it was interrupted
        session.write_physical(stack, (0).to_bytes(4, "big") + deep["pc"].to_bytes(4, "big"))
        deep["pc"], deep["r1"] = LOOP, stack
        session.write_all(deep.raw)
        with pytest.raises(TargetTimeout, match="try again"):
            cpu.call(session, at, [lent.state(ARENA)])
        assert session.read_all() == deep.raw
        assert not cpu.is_there(session, at)


def test_a_cpu_that_naps_is_waited_for(guest: Qemu, debugger: Debugger) -> None:
    client = ComponentClient(guest, lambda: debugger, Ppc440(), Flat(ARENA.physical))
    header = client.install(ARENA, "00" * 32, {})
    with debugger.stopped() as session:
        session.write_physical(NAPS, (1).to_bytes(4, "big"))
    for _ in range(5):
        ids = client.apply(header, planned(guest, client, LOOP, arena=ARENA))
        grows(guest, COUNT)
        taken_out(client, header, set(ids))


@pytest.mark.parametrize(
    ("at", "instead", "why"),
    [
        (0xA30, 0x2C0D_0040, "0x00000a00 does not fill entries in turns"),  # up to 64
        *(
            pytest.param(*case, marks=pytest.mark.soak)
            for case in (
                (0xB30, 0x6000_0000, "0x00000b00 does not fill entries in turns"),
                (0xB30, 0x2C0D_003D, "do not agree"),
                (LAST, 61, "do not agree"),
                (0xA40, 0x4C00_0064, ""),  # rfi in place of the branch: an end, too
                (0x1098, 0x6000_0000, "no code is found that empties it"),
            )
        ),
    ],
)
def test_a_kernel_that_fills_its_tlb_otherwise_is_refused_unchanged(
    guest: Qemu, debugger: Debugger, at: int, instead: int, why: str
) -> None:
    cpu = Ppc440()
    with debugger.stopped() as session:
        kept = session.read_physical(at, 4)
        session.run_to(LOOP, 10)
        session.write_physical(at, instead.to_bytes(4, "big"))
        before, memory = session.registers(), guest.ram.read(0, 16 * MIB)
        session.write_physical(ARENA.physical + layout.STUB_OFFSET, cpu.code)
        if why:
            with pytest.raises(Refused, match=why) as refused:
                cpu.call(session, ARENA.physical, [lent.state(ARENA)])
            assert refused.value.rule == "mapping"
            assert guest.ram.read(0, 16 * MIB) == memory
        else:
            cpu.call(session, ARENA.physical, [lent.state(ARENA)])
        assert session.registers() == before
        session.write_physical(at, kept)
    goes_on(guest)
