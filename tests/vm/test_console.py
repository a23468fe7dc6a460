"""Open Firmware's prompt is the guest here: it prints at once and answers what is typed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kgdbpatch.errors import TargetLost, TargetTimeout
from kgdbpatch.vm.console import Console
from kgdbpatch.vm.machine import MachineDescription
from kgdbpatch.vm.process import Process
from kgdbpatch.vm.qemu import Qemu

from .baremetal import Starter

PROMPT = r"^0 > $"


@pytest.fixture(scope="module")
def firmware(runtime: Path) -> Iterator[Qemu]:
    board = MachineDescription.load("g3beige")
    with Qemu.start("firmware", board, 64, ["-prom-env", "auto-boot?=false", "-nographic"]) as qemu:
        qemu.console.wait(PROMPT, 20, partial=True)
        yield qemu


@pytest.mark.guest
def test_everything_from_the_first_byte(firmware: Qemu) -> None:
    lines = firmware.console.lines()
    assert lines[1].startswith(">> ====="), lines
    assert lines[2].startswith(">> OpenBIOS"), lines
    seen = firmware.console.wait(r"CPU type (\S+)")
    assert seen.string in lines
    assert (firmware.directory / "console.log").read_bytes().endswith(b"0 > ")


@pytest.mark.guest
def test_typing_and_waiting(firmware: Qemu) -> None:
    console = firmware.console
    for first in (20, 4000):
        since = console.position()
        console.send(f"{first} 22 + .\r")
        assert console.wait(rf"> {first} 22 \+ \. (\d+)", 5, since)[1] == str(first + 22)
        console.wait(PROMPT, 5, console.position(), partial=True)


@pytest.mark.guest
def test_an_unfinished_line_does_not_match_unasked(firmware: Qemu) -> None:
    began = time.monotonic()
    with pytest.raises(
        TargetTimeout, match=r"no line like /\^0 > \$/ on the console within 0\.3 s"
    ) as caught:
        firmware.console.wait(PROMPT, 0.3)
    assert 0.3 <= time.monotonic() - began < 1.5
    assert "OpenBIOS" in str(caught.value)


@pytest.mark.guest
def test_many_readers(firmware: Qemu) -> None:
    since = firmware.console.position()
    code = (
        "import sys; from kgdbpatch.vm.qemu import Qemu; console = Qemu.attach('firmware').console;"
        f"print('up', flush=True); print(console.wait('echo-(\\\\d+) ', 10, {since})[1])"
    )
    readers = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    try:
        for reader in readers:
            assert reader.stdout is not None
            assert reader.stdout.readline() == "up\n"
        firmware.console.send('." echo-123 " cr\r')
        assert [reader.communicate(timeout=10)[0] for reader in readers] == ["123\n", "123\n"]
    finally:
        for reader in readers:
            reader.kill()


@pytest.mark.guest
def test_following_ends_at_its_deadline(firmware: Qemu) -> None:
    began = time.monotonic()
    lines = list(firmware.console.follow(0, 0.3))
    assert lines == firmware.console.lines()
    assert 0.3 <= time.monotonic() - began < 1.5


@pytest.mark.guest
def test_input_that_nobody_takes(start: Starter) -> None:
    qemu = start("deaf")
    with pytest.raises(TargetTimeout, match=r"did not take its console input within 0\.3 s"):
        qemu.console.send("hello", 0.3)
    assert qemu.hmp("info status") == "VM status: running"


@pytest.mark.guest
def test_waiting_ends_when_qemu_does(start: Starter) -> None:
    qemu = start("mute")
    killer = subprocess.Popen(["sh", "-c", f"sleep 0.3; kill -KILL {qemu.pid}"])
    began = time.monotonic()
    with pytest.raises(TargetLost, match="killed by SIGKILL"):
        qemu.console.wait("never", 30)
    assert time.monotonic() - began < 1.5
    killer.wait()
    with pytest.raises(TargetLost, match="killed by SIGKILL"):
        qemu.console.send("hello")


class _Writer:
    """A process that stands in the place of QEMU: only its end matters here."""

    def __init__(self) -> None:
        self._child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
        self.process = Process.child(self._child.pid)

    def lost(self) -> TargetLost:
        return TargetLost("the writer ended")

    def end(self) -> None:
        os.kill(self._child.pid, signal.SIGKILL)
        self._child.communicate()


def test_lines_in_pieces(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"one\r\ntwo \xff\nthr")
    writer = _Writer()
    try:
        console = Console(path, tmp_path / "none", writer)
        assert console.lines() == ["one", "two \ufffd"]
        assert console.lines(5) == ["two \ufffd"]
        assert console.position() == len(b"one\r\ntwo \xff\n")
        follower = console.follow()
        assert [next(follower), next(follower)] == ["one", "two \ufffd"]
        with path.open("ab") as log:
            log.write(b"ee\nfour")
        assert next(follower) == "three"
        assert console.wait("fo", 1, partial=True).string == "four"
    finally:
        writer.end()
    with pytest.raises(TargetLost, match="the writer ended"):
        next(follower)
