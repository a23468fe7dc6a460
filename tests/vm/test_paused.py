"""A guest that its user paused stays paused, whatever is done to it; Ctrl-C leaves no answer to others."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest

from kgdbpatch.cpu.msr import NAP
from kgdbpatch.cpu.ppc6xx import Ppc6xx
from kgdbpatch.cpu.ppc6xx.msr import RI
from kgdbpatch.errors import TargetTimeout
from kgdbpatch.vm.gdb import Debugger
from kgdbpatch.vm.machine import MachineDescription
from kgdbpatch.vm.qemu import Qemu

from .baremetal import LOOP, Starter, count, loader, runs

pytestmark = pytest.mark.guest
DECREMENTER = 0x900  # its exception's vector


def test_a_paused_guest_stays_paused(start: Starter) -> None:
    qemu = start("paused")
    with Debugger(qemu) as debugger:
        for _ in range(2):
            qemu.qmp("stop")
            before = count(qemu)
            with debugger.stopped() as session:
                session.write_physical(0x3000, b"data")
            with pytest.raises(ZeroDivisionError), debugger.stopped():
                raise ZeroDivisionError
            assert qemu.hmp("info status") == "VM status: paused"
            assert count(qemu) == before
            qemu.qmp("cont")
            with debugger.stopped():
                pass
            assert runs(qemu)
        qemu.qmp("stop")
        with debugger.stopped() as session:
            session.resume()
        assert qemu.hmp("info status") == "VM status: paused"


@pytest.mark.parametrize("paused", [False, True])
def test_a_killed_debugger_leaves_a_guest_as_it_was(start: Starter, paused: bool) -> None:
    qemu = start("left")
    if paused:
        qemu.qmp("stop")
    client = os.fork()
    if client == 0:  # a client that dies, with its GDB, while it holds the guest
        with Debugger(qemu) as debugger, debugger.stopped():
            os.kill(debugger.gdb_pid, signal.SIGKILL)
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(client, 0)
    assert qemu.hmp("info status").startswith("VM status: paused")
    with Debugger(qemu) as debugger, debugger.stopped():
        pass
    assert runs(qemu) is not paused


def test_an_interrupted_row_leaves_its_answer_to_nobody(start: Starter) -> None:
    qemu = start("interrupted")
    with Debugger(qemu) as debugger:
        for _ in range(3):
            timer = threading.Timer(0.5, os.kill, [os.getpid(), signal.SIGINT])
            timer.start()
            with pytest.raises(KeyboardInterrupt), debugger.stopped() as session:
                session.run_to(LOOP + 0x800, 2)  # nothing is there
            with debugger.stopped() as session:
                assert session.read_physical(LOOP, 4) == qemu.ram.read(LOOP, 4)
                assert session.read(LOOP, 4) == qemu.ram.read(LOOP, 4)
                assert session.registers()["pc"] in range(LOOP, LOOP + 0x100)
        assert runs(qemu)


def test_a_nap_is_named(runtime: Path, tmp_path: Path) -> None:
    nap = (0x3C600004, 0x7C600124, 0x4BFFFFF8)  # lis r3,4; mtmsr r3; b .-8: naps with interrupts off
    code = b"".join(word.to_bytes(4, "big") for word in (0x3C800010, 0x7C90FBA6, *nap))  # hid0: doze/nap on
    (tmp_path / "nap.bin").write_bytes(code.ljust(0x100, b"\0"))
    board = MachineDescription.load("g3beige")
    with (
        Qemu.start("nap", board, 32, loader(tmp_path / "nap.bin")) as qemu,
        Debugger(qemu) as debugger,
        debugger.stopped() as session,
    ):
        with pytest.raises(TargetTimeout, match="msr 0x00040000"):
            session.run_to(LOOP + 0x40, 1)
        with pytest.raises(TargetTimeout, match="the CPU naps"):  # by its family, which knows MSR
            Ppc6xx.leave_exception(session)


def test_a_nap_is_ended_by_an_interrupt(runtime: Path, tmp_path: Path) -> None:
    sleeper = (
        *(0x3C800080, 0x7C90FBA6),  # lis r4,0x80; mtspr hid0,r4: it may doze
        *(0x3CA00080, 0x7CB603A6),  # lis r5,0x80; mtdec r5: half a second
        *(0x3C600004, 0x60638000, 0x7C600124),  # lis r3,4; ori r3,r3,0x8000; mtmsr r3: naps, interrupts on
        0x4BFFFFEC,  # b .-20
    )
    wakes = (0x7CC000A6, 0x60C60002, 0x7CC00124, 0x48000000)  # its exception is one to return from (RI)
    code = bytearray(0x800)
    for at, words in ((0, wakes), (LOOP - DECREMENTER, sleeper)):
        code[at : at + 4 * len(words)] = b"".join(word.to_bytes(4, "big") for word in words)
    (tmp_path / "sleeper.bin").write_bytes(code)
    place, start = f"file={tmp_path / 'sleeper.bin'},addr={DECREMENTER:#x},force-raw=on", f"addr={LOOP:#x}"
    arguments = ["-device", f"loader,{place}", "-device", f"loader,{start},cpu-num=0"]
    board = MachineDescription.load("g3beige")
    with Qemu.start("sleeper", board, 32, arguments) as qemu, Debugger(qemu) as debugger:
        with debugger.stopped() as session:
            while session.registers()["pc"] < LOOP + 28:
                session.resume()
                session.interrupt()
            assert session.registers()["msr"] & NAP
            Ppc6xx.leave_exception(session)
            found = session.registers()
            assert found["pc"] in range(DECREMENTER, DECREMENTER + 4 * len(wakes))
            assert found["msr"] & (NAP | RI) == RI
        with debugger.stopped() as session:
            assert session.registers()["pc"] == DECREMENTER + 12, "no breakpoint is left"


def test_a_path_with_a_colon(program: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    with pytest.MonkeyPatch.context() as environment:
        directory = tmp_path_factory.mktemp("a:b,c")
        directory.chmod(0o700)
        environment.setenv("KGDBPATCH_RUNTIME", str(directory))
        board = MachineDescription.load("g3beige")
        with Qemu.start("colon", board, 32, loader(program)) as qemu, Debugger(qemu) as debugger:
            with debugger.stopped() as session:
                assert session.read(LOOP, 4) == qemu.ram.read(LOOP, 4)
            assert runs(qemu)
