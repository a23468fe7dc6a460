from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator

import pytest

from kgdbpatch.errors import CommandFailed, MemoryFault, Misuse, TargetLost, TargetTimeout
from kgdbpatch.vm import gdb
from kgdbpatch.vm import session as sessions
from kgdbpatch.vm.gdb import Debugger, GRegisters, Session
from kgdbpatch.vm.qemu import Qemu
from kgdbpatch.vm.registers import GENERAL

from .baremetal import CARRY, CODE, COUNTER, LOOP, NAP, SUM, Starter, count, runs

pytestmark = pytest.mark.guest
ROM = 0xFFF00000
POW = 0x40000


@pytest.fixture
def session(debugger: Debugger) -> Iterator[Session]:
    """A stopped guest that gets its registers back, whatever the test does to them."""
    with debugger.stopped() as stopped:
        saved = stopped.read_all()
        try:
            yield stopped
        finally:
            stopped.write_all(saved)


def test_a_stop_is_short_and_always_ends(qemu: Qemu, debugger: Debugger) -> None:
    with debugger.stopped():
        before = count(qemu)
        assert qemu.hmp("info status") == "VM status: paused"
        assert count(qemu) == before
    assert runs(qemu)
    with pytest.raises(ZeroDivisionError), debugger.stopped():
        _ = 1 // 0
    assert runs(qemu)
    pauses = []
    for _ in range(5):
        with debugger.stopped():
            pass
        pauses.append(debugger.pause)
    print(f"shortest stop {min(pauses) * 1e3:.1f} ms")
    assert min(pauses) < 0.1


def test_registers_are_what_the_monitor_says(qemu: Qemu, session: Session) -> None:
    registers = GRegisters(session.read_all())
    for index, name in enumerate(GENERAL):
        registers[name] = 0x01010101 * (index + 1)
    registers["pc"], registers["msr"], registers["xer"] = SUM, 0x1040, 0xE000_0055
    session.write_all(registers.raw)
    assert session.read_all() == registers.raw
    shown = qemu.hmp("info registers")
    seen = dict(re.findall(r"\b(NIP|LR|CTR|XER|MSR|CR) ([0-9a-f]{8})\b", shown))
    assert {name.lower(): int(value, 16) for name, value in seen.items()} == {
        "nip": SUM,
        "msr": registers["msr"],
        **{name: registers[name] for name in ("lr", "ctr", "xer", "cr")},
    }
    rows = re.findall(r"^GPR\d+ (.*)$", shown, re.MULTILINE)
    assert [int(word, 16) for row in rows for word in row.split()] == [registers[f"r{n}"] for n in range(32)]


def test_special_registers(qemu: Qemu, debugger: Debugger) -> None:
    with debugger.stopped() as session:
        assert session.register("pvr") == 0x00080301  # MPC750 v3.1
        assert session.register("pc") == session.registers()["pc"]
        assert session.register("dbat3u") == 0
        with pytest.raises(Misuse, match="the CPU has no register 'vrsave'"):
            session.register("vrsave")


def test_memory(qemu: Qemu, debugger: Debugger) -> None:
    pattern = bytes(range(256)) * 200
    with debugger.stopped() as session:
        assert session.read(LOOP, 8) == b"".join(word.to_bytes(4, "big") for word in CODE[LOOP][:2])
        for size in (0, 1, 3, 4, 64, 65, 4096, len(pattern)):
            for write, read in (
                (session.write, session.read),
                (session.write_physical, session.read_physical),
                (session.write, session.read_physical),
            ):
                session.write_physical(0x8000, bytes(len(pattern) + 8))
                write(0x8001, pattern[:size])
                assert read(0x8001, size) == pattern[:size]
                assert qemu.ram.read(0x8000, size + 5) == b"\0" + pattern[:size] + bytes(4)
        assert session.read_physical(ROM, 4096) == session.read(ROM, 4096)
        assert any(session.read_physical(ROM, 4096))
    assert runs(qemu)


def test_memory_that_is_not_there(session: Session) -> None:
    registers = GRegisters(session.read_all())
    registers["msr"] |= 0x30  # IR and DR: nothing is mapped
    session.write_all(registers.raw)
    for size in (4, 4096, 1 << 16):
        with pytest.raises(MemoryFault, match="no mapped memory at 0x00001000") as caught:
            session.read(LOOP, size)
        assert caught.value.address == LOOP
        with pytest.raises(MemoryFault, match="no mapped memory at 0x00008000"):
            session.write(0x8000, b"x" * size)
        assert session.read_physical(LOOP, 4) == CODE[LOOP][0].to_bytes(4, "big")
        session.write_physical(0x8000, b"y" * size)
        with pytest.raises(MemoryFault):  # a physical access leaves no traces
            session.read(0x8000, size)
    for address, size in ((-4, 4), (0xFFFF_FFFF, 4), (0, -1)):
        with pytest.raises(Misuse, match="not an address range"):
            session.read(address, size)


def test_packets(debugger: Debugger) -> None:
    with debugger.stopped() as session:
        assert session.packets("qC", "qAttached:1") == ["QCp01.01", "1"]
        for bad in ("", ":kill", "a\nb", "\u00e9"):
            with pytest.raises(Misuse, match="not a packet"):
                session.packet(bad)
    with debugger.stopped() as session:
        assert session.packet("qqemu.PhyMemMode") == "0"


def test_one_packet_sets_pc_and_msr(session: Session) -> None:
    registers = GRegisters(session.read_all())
    registers["pc"], registers["msr"], registers["r5"], registers["r6"] = SUM, 0, 0, 0
    session.write_all(registers.raw)
    there = session.run_to_physical(SUM + 8, 5)
    assert (there["pc"], there["msr"], there["r5"], there["r6"]) == (SUM + 8, 0, 42, 43)


@pytest.mark.parametrize("carry", [0, 1])
def test_the_carry_bit_is_restored_too(session: Session, carry: int) -> None:
    registers = GRegisters(session.read_all())
    registers["pc"], registers["xer"] = CARRY, carry << 29
    session.write_all(registers.raw)
    assert session.run_to_physical(CARRY + 8, 5)["r6"] == carry


def test_code_that_does_not_arrive_is_interrupted(qemu: Qemu, debugger: Debugger) -> None:
    with debugger.stopped() as session:
        began = time.monotonic()
        with pytest.raises(TargetTimeout, match=r"did not reach 0x00001100 within 1 s; it is at 0x000010"):
            session.run_to_physical(SUM, 0.7)
        assert time.monotonic() - began < 2
        assert LOOP <= session.registers()["pc"] < SUM
    assert runs(qemu)  # and stops at no breakpoint left behind
    with debugger.stopped() as session:
        at = session.run_to_physical(LOOP + 12, 5)["pc"]
        assert at == LOOP + 12
    assert runs(qemu)


def test_a_napping_cpu_runs_nothing(start: Starter) -> None:
    qemu = start("napping")
    with Debugger(qemu) as debugger, debugger.stopped() as session:
        registers = GRegisters(session.read_all())
        registers["pc"] = NAP
        session.write_all(registers.raw)
        for _ in range(100):
            if session.registers()["msr"] & POW:
                break
            session.resume()
            session.interrupt()
        assert session.registers()["pc"] == NAP + 20
        registers["pc"] = SUM
        session.write_all(registers.raw)
        with pytest.raises(TargetTimeout, match=f"it is at {SUM:#010x}, msr 0x00000040"):
            session.run_to_physical(SUM + 8, 1)


def test_resume_and_interrupt(qemu: Qemu, debugger: Debugger) -> None:
    with debugger.stopped() as session:
        session.write_physical(COUNTER, bytes(4))
        with pytest.raises(Misuse, match="stopped already"):
            session.interrupt()
        for _ in range(3):
            before = count(qemu)
            session.resume()
            with pytest.raises(Misuse, match="the guest runs"):
                session.read(LOOP, 4)
            assert runs(qemu)
            session.interrupt()
            assert count(qemu) != before
            assert qemu.hmp("info status") == "VM status: paused"
        session.resume()
    assert runs(qemu)


def test_killed_gdb_is_replaced_and_its_stop_ends(qemu: Qemu, debugger: Debugger) -> None:
    def die() -> None:
        with debugger.stopped() as session:
            session.packet(f"Z1,{LOOP + 8:x},4")  # in the loop
            session.packet("Qqemu.PhyMemMode:1")
            os.kill(debugger.gdb_pid, signal.SIGKILL)
            session.packet("qC")

    with pytest.raises(TargetLost, match=r"GDB ended \(exit code -9\)"):
        die()
    assert qemu.hmp("info status") != "VM status: running"
    with debugger.stopped() as session:
        assert session.packet("qqemu.PhyMemMode") == "0"
    assert runs(qemu)


def test_killed_qemu_is_noticed_at_once(start: Starter) -> None:
    qemu = start("killed")

    def read() -> None:
        with debugger.stopped() as session:
            os.kill(qemu.pid, signal.SIGKILL)
            session.read(LOOP, 4)

    with Debugger(qemu) as debugger:
        with debugger.stopped():
            pass
        began = time.monotonic()
        with pytest.raises(TargetLost, match=r"QEMU ended \(killed by SIGKILL\)"):
            read()
        assert time.monotonic() - began < 1
        with pytest.raises(TargetLost, match=r"QEMU ended \(killed by SIGKILL\)"), debugger.stopped():
            pytest.fail("connected to a dead QEMU")


def test_qemu_killed_while_the_guest_runs(start: Starter) -> None:
    qemu = start("killed-running")

    def interrupt() -> None:
        with debugger.stopped() as session:
            session.resume()
            os.kill(qemu.pid, signal.SIGKILL)
            session.interrupt()

    with Debugger(qemu) as debugger, pytest.raises(TargetLost, match="killed by SIGKILL"):
        interrupt()


def test_qemu_killed_while_code_is_awaited(start: Starter) -> None:
    qemu = start("killed-awaited")
    killer = subprocess.Popen(["sh", "-c", f"sleep 0.3; kill -KILL {qemu.pid}"])
    began = time.monotonic()
    with Debugger(qemu) as debugger:
        with pytest.raises(TargetLost, match="killed by SIGKILL"), debugger.stopped() as session:
            session.run_to_physical(SUM, 5)
        assert time.monotonic() - began < 2
    killer.wait()


def test_stuck_qemu_times_out(start: Starter, monkeypatch: pytest.MonkeyPatch) -> None:
    qemu = start("hanging")
    with Debugger(qemu) as debugger:
        with debugger.stopped():
            pass
        for module in (gdb, sessions):
            monkeypatch.setattr(module, "DEADLINE", 1.0)
        os.kill(qemu.pid, signal.SIGSTOP)
        began = time.monotonic()
        with pytest.raises(TargetTimeout, match="GDB did not answer"), debugger.stopped():
            pytest.fail("connected to a stopped QEMU")
        assert time.monotonic() - began < 3
        os.kill(qemu.pid, signal.SIGCONT)
        monkeypatch.undo()  # a new GDB takes its time to start
        with debugger.stopped():
            pass
        assert runs(qemu)


def test_refusals_are_quoted(debugger: Debugger) -> None:
    with debugger.stopped() as session:
        with pytest.raises(CommandFailed, match="GDB: "):
            session.commands("no-such-command")
        with pytest.raises(TargetLost, match="has 3 bytes"):
            session.write_all(b"abc")
