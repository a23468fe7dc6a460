"""What is written down of guests outlives them, and whatever is wrong with one harms no other."""

from __future__ import annotations

import fcntl
import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from kgdbpatch.errors import TargetBusy, TargetLost
from kgdbpatch.kernel import catalog
from kgdbpatch.vm import launch, runtime
from kgdbpatch.vm.lock import exclusive
from kgdbpatch.vm.machine import MachineDescription
from kgdbpatch.vm.process import exit_words
from kgdbpatch.vm.qemu import Qemu

from .baremetal import Starter, loader, runs

pytestmark = pytest.mark.guest
BOARD = MachineDescription.load("g3beige")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGSEGV, signal.SIGRTMIN + 2, signal.SIGRTMAX])
def test_how_qemu_ended_is_known_to_whoever_asks(start: Starter, number: int) -> None:
    """The real-time signals between SIGRTMIN and SIGRTMAX have no names in Python."""
    qemu = start("ending")
    os.kill(qemu.pid, number)
    assert qemu.process.wait(5)
    named: dict[int, str] = {
        signal.SIGTERM: "exit code 0",  # QEMU takes it for a request
        signal.SIGSEGV: "killed by SIGSEGV",
        signal.SIGRTMAX: "killed by SIGRTMAX",
    }
    expected = named.get(number, f"killed by signal {number}")
    ask = "from kgdbpatch.vm.qemu import Qemu; Qemu.attach('ending')"
    other = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True)
    assert f"QEMU ended ({expected})" in other.stderr
    (dead,) = [guest for guest in catalog.known() if guest.name == "ending"]
    assert (dead.state, dead.reason) == ("ended", f"QEMU ended ({expected})")


def test_every_status_has_words() -> None:
    assert all(exit_words(status) for status in range(256))


def test_a_damaged_record_is_listed_and_can_be_shut_down(start: Starter) -> None:
    other, qemu = start("whole"), start("damaged")
    (qemu.directory / "guest.json").write_text("{")
    listed = {guest.name: guest for guest in catalog.known()}
    assert "damaged" in listed["damaged"].reason
    assert listed["damaged"].pid == qemu.pid
    assert listed["whole"].state == "running"
    assert runs(Qemu.attach("whole"))
    catalog.shutdown("damaged")
    assert qemu.process.wait(5)
    assert not qemu.directory.exists()
    assert other.alive()


def test_a_start_that_hangs_blocks_no_other_guest(start: Starter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "WAIT", 0.2)
    qemu = start("free")
    descriptor = os.open(qemu.directory.parent / ".lock", os.O_RDWR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)  # as a stopped `boot` holds it
        assert runs(Qemu.attach("free"))
        assert "free" in [guest.name for guest in catalog.known()]
        with (
            pytest.raises(TargetBusy, match="is being started or removed"),
            runtime.starting(qemu.directory.parent, 0.2),
        ):
            pytest.fail("two hold the lock")
    finally:
        os.close(descriptor)


def test_waiting_needs_no_program(start: Starter, monkeypatch: pytest.MonkeyPatch) -> None:
    qemu = start("lonely")
    monkeypatch.setenv("PATH", "")
    with exclusive(qemu.directory / "lock", "lonely", 0):
        for wait in (0, 0.1):
            with pytest.raises(TargetBusy), exclusive(qemu.directory / "lock", "lonely", wait):
                pytest.fail("two hold the lock")
    with exclusive(qemu.directory / "lock", "lonely", 5):  # who gave up waiting does not hold it
        pass


def test_descriptors_may_have_any_number(runtime: Path, program: Path) -> None:
    """Those for QEMU must not overwrite each other on their way to their places."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    held = [os.open(os.devnull, os.O_RDONLY) for _ in range(min(130, soft - 60))]
    try:
        for number in range(90):
            os.close(held.pop())
            if number % 3 == 0:
                aside = os.open(os.devnull, os.O_RDONLY)
                held.insert(0, aside)
            if number % 15 == 0:
                with Qemu.start("numbered", BOARD, 32, loader(program)) as qemu:
                    assert runs(qemu)
                    assert qemu.ram.size == 32 << 20
    finally:
        for descriptor in held:
            os.close(descriptor)


def test_a_process_of_another_namespace_is_let_live(start: Starter) -> None:
    qemu = start("container")
    path = qemu.directory / "guest.json"
    known = json.loads(path.read_text())
    path.write_text(json.dumps(known | {"namespace": "pid:[1]", "started": 1}))
    assert "container" in [guest.name for guest in catalog.known()]
    with pytest.raises(TargetLost, match="another PID namespace"):
        Qemu.attach("container")
    assert qemu.alive()
    path.write_text(json.dumps(known))
    assert runs(Qemu.attach("container"))


@pytest.mark.parametrize("moment", ["spawned", "recorded"])
def test_an_interrupted_start_leaves_no_qemu(
    runtime: Path, program: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    spawn = launch.spawn
    seen: list[int] = []

    def interrupted(*arguments: object) -> object:
        process, ram = spawn(*arguments)  # type: ignore[arg-type]
        seen.append(process.pid)
        if moment == "spawned":
            raise KeyboardInterrupt
        os.kill(os.getpid(), signal.SIGINT)
        return process, ram

    monkeypatch.setattr(launch, "spawn", interrupted)
    with pytest.raises(KeyboardInterrupt):
        Qemu.start("interrupted", BOARD, 32, loader(program))
    assert not Path(f"/proc/{seen[0]}").exists() or not catalog.known()
    assert "interrupted" not in [guest.name for guest in catalog.known()]
    assert not Path(f"/proc/{seen[0]}/exe").exists()


def test_lines_end_at_newlines_only(start: Starter) -> None:
    qemu = start("lines")
    with (qemu.directory / "console.log").open("ab") as log:
        log.write(b"one\rtwo\x0bthree\n\xc2\x85four\r\nrest")
    expected = ["one\rtwo\x0bthree", "\x85four"]
    assert qemu.console.lines() == expected
    assert list(qemu.console.follow(deadline=0.01)) == expected


def test_events_are_kept(start: Starter) -> None:
    qemu = start("events")
    qemu.qmp("stop")
    assert not qemu.runs()
    qemu.qmp("cont")
    assert qemu.runs()
    qemu.savevm("before")
    qemu.qmp("system_reset")
    seen = qemu.events.update()
    assert [reason for _, reason in seen.resets] == ["host qmp system reset"]
    assert qemu.since.events <= seen.resets[0][0]
    qemu.loadvm("before")
    assert all(place < qemu.since.events for place, _ in qemu.events.update().resets)
    assert runs(Qemu.attach("events"))
