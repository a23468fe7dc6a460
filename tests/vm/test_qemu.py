from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kgdbpatch.errors import CommandFailed, MemoryFault, Misuse, TargetBusy, TargetLost, UnknownGuest
from kgdbpatch.vm import qemu as module
from kgdbpatch.vm.machine import MachineDescription
from kgdbpatch.vm.qemu import Qemu
from kgdbpatch.vm.runtime import guests

from .baremetal import CODE, LOOP, MEMORY_MIB, Starter, count, loader, runs

pytestmark = pytest.mark.guest
BOARD = MachineDescription.load("g3beige")


def test_attach_finds_what_start_kept(runtime: Path, program: Path) -> None:
    with Qemu.start("meta", BOARD, 32, lambda _: loader(program), metadata={"kernel": "k"}) as qemu:
        other = Qemu.attach("meta")
        assert (other.pid, other.metadata, other.name) == (qemu.pid, {"kernel": "k"}, "meta")
        assert other.architecture == "powerpc:750"
        assert runs(other)
    assert not other.alive()
    assert not qemu.directory.exists()
    with pytest.raises(UnknownGuest, match="no guest 'meta'"):
        Qemu.attach("meta")


def test_ram_is_live_and_read_only(qemu: Qemu) -> None:
    assert qemu.ram.size == MEMORY_MIB << 20
    assert qemu.ram.read(LOOP, 4) == CODE[LOOP][0].to_bytes(4, "big")
    view = qemu.ram.array(0, qemu.ram.size)
    assert not view.flags.writeable
    before = bytes(view[0x2000:0x2004])
    assert runs(qemu)
    assert bytes(view[0x2000:0x2004]) != before
    for address, size in ((qemu.ram.size, 1), (-4, 4), (qemu.ram.size - 3, 4)):
        with pytest.raises(MemoryFault):
            qemu.ram.read(address, size)


def test_memory_never_used_is_known(qemu: Qemu) -> None:
    pieces = list(qemu.ram.touched())
    assert any(start <= LOOP < end for start, end in pieces)
    assert sum(end - start for start, end in pieces) < qemu.ram.size // 2
    unused = qemu.ram.array(0, qemu.ram.size).astype(bool)
    for start, end in pieces:
        unused[start:end] = False
    assert not unused.any()


def test_snapshots_bring_memory_back(qemu: Qemu) -> None:
    qemu.qmp("stop")
    saved = count(qemu)
    qemu.savevm("here")
    qemu.qmp("cont")
    assert runs(qemu)
    qemu.qmp("stop")
    assert count(qemu) != saved
    qemu.loadvm("here")
    assert count(qemu) == saved
    qemu.qmp("cont")
    assert runs(qemu)


def test_commands_that_qemu_refuses(qemu: Qemu) -> None:
    with pytest.raises(CommandFailed, match="loadvm nowhere: Snapshot 'nowhere' does not exist"):
        qemu.loadvm("nowhere")
    with pytest.raises(CommandFailed, match="The command bogus has not been found"):
        qemu.qmp("bogus")


def test_early_exit_is_quoted(runtime: Path) -> None:
    with pytest.raises(TargetLost, match=r"exited immediately \(exit code 1\): .*-bogus: invalid option"):
        Qemu.start("early", BOARD, 32, ["-bogus"])
    assert not (runtime / "early").exists()


def test_failing_arguments_leave_nothing(runtime: Path) -> None:
    def fail(_: Path) -> list[str]:
        raise Misuse("no such image")

    with pytest.raises(Misuse, match="no such image"):
        Qemu.start("failing", BOARD, 32, fail)
    assert not (runtime / "failing").exists()


def test_taken_name(qemu: Qemu) -> None:
    with pytest.raises(Misuse, match=rf"guest 'shared' is running \(pid {qemu.pid}\)"):
        Qemu.start("shared", BOARD, 32)
    assert qemu.alive()


def test_too_much_memory(runtime: Path) -> None:
    with pytest.raises(Misuse, match="takes 1 to 2047 MiB, not 4096"):
        Qemu.start("big", BOARD, 4096)
    assert not (runtime / "big").exists()


def test_stuck_qemu_is_ended(start: Starter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "QUIT", 0.5)
    qemu = start("stuck")
    os.kill(qemu.pid, signal.SIGSTOP)
    qemu.shutdown()
    assert qemu.process.exit_text() == "killed by SIGKILL"
    assert not qemu.directory.exists()
    qemu.shutdown()  # once more is no error


def test_death_during_a_command_is_noticed(start: Starter) -> None:
    qemu = start("dying")
    os.kill(qemu.pid, signal.SIGSTOP)
    killer = subprocess.Popen(["sh", "-c", f"sleep 0.3; kill -KILL {qemu.pid}"])
    began = time.monotonic()
    with pytest.raises(TargetLost, match="killed by SIGKILL"):
        qemu.hmp("info status")
    assert time.monotonic() - began < 1.5
    killer.wait()


def test_no_port_is_opened(qemu: Qemu) -> None:
    owned = {os.stat(f"/proc/{qemu.pid}/fd/{fd}").st_ino for fd in os.listdir(f"/proc/{qemu.pid}/fd")}
    for table in ("tcp", "tcp6", "udp", "udp6"):
        try:
            rows = Path(f"/proc/{qemu.pid}/net/{table}").read_text().splitlines()[1:]
        except FileNotFoundError:  # a host without that protocol
            continue
        assert not owned & {int(row.split()[9]) for row in rows}
    assert qemu.directory.stat().st_mode & 0o777 == 0o700


CLIENT = """
import sys
from kgdbpatch.vm.qemu import Qemu
{work}
print("done", flush=True)
sys.stdin.read()
"""


def client(work: str) -> subprocess.Popen[str]:
    """Start another process that does ``work`` and then waits; return when it has done it."""
    process = subprocess.Popen(
        [sys.executable, "-c", CLIENT.format(work=work)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "done\n"
    return process


def end(process: subprocess.Popen[str]) -> None:
    os.killpg(process.pid, signal.SIGKILL)  # harder than any terminal would
    process.communicate()


def test_guest_outlives_its_client(runtime: Path, program: Path) -> None:
    end(
        client(
            "from kgdbpatch.vm.machine import MachineDescription\n"
            f"Qemu.start('orphan', MachineDescription.load('g3beige'), 32, {loader(program)!r})"
        )
    )
    assert "orphan" in [guest.name for guest in guests()]
    with Qemu.attach("orphan") as qemu:
        assert runs(qemu)
    assert not qemu.directory.exists()


def test_second_client_waits_its_turn(qemu: Qemu) -> None:
    holder = client("held = Qemu.attach('shared').exclusive(1)\nheld.__enter__()")
    try:
        for wait in (0, 0.2):
            began = time.monotonic()
            busy = pytest.raises(TargetBusy, match=rf"guest 'shared' is in use by process {holder.pid};")
            with busy, qemu.exclusive(wait):
                pytest.fail("two clients hold the guest")
            assert wait <= time.monotonic() - began < wait + 1
    finally:
        end(holder)
    with qemu.exclusive(1):  # a dead client holds nothing
        pass
    with qemu.exclusive(0):
        pass
