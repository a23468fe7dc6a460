"""Guests that somebody else started: attached to, patched, let go of as they were."""

from __future__ import annotations

import os
import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from kgdbpatch.errors import Misuse, TargetBusy, TargetLost, UnknownGuest, WrongKernel
from kgdbpatch.image import Image
from kgdbpatch.kernel import Kernel, catalog
from kgdbpatch.kernel.attaching import attach, detach
from kgdbpatch.kernel.guest_doctor import examine
from kgdbpatch.vm import runtime

from .by_hand import ByHand, started
from .cut import Killed
from .relay import relayed

pytestmark = pytest.mark.guest
EXAMPLE = Path(__file__).parents[2] / "examples" / "own_guest"
LINEAR = 0xC000_0000  # what a Linux address is more than the physical one


@pytest.fixture(scope="module")
def darwin() -> Iterator[ByHand]:
    with started("darwin") as guest:
        yield guest


def attached(guest: ByHand, name: str, qmp: str = "", console: str = "") -> Kernel:
    """Attach, and close what was begun: the guest is found by its name then."""
    attach(name, guest.gdb, guest.kernel, qmp=qmp, console=console).close()
    return Kernel.attach(name)


def hits(kernel: Kernel, patch: int) -> int:
    """Return how often a patch was hit once it was, which the guest's workload does all the time."""
    until = time.monotonic() + 120
    while not (found := kernel.find_patch(patch).hits):
        assert time.monotonic() < until
        time.sleep(0.05)  # nobody tells when a counter moves
    return found


def changes(before: bytes, after: bytes) -> list[tuple[str, int, int]]:
    """Return (address, word before, word after) of the words that differ."""
    old, new = np.frombuffer(before, ">u4"), np.frombuffer(after, ">u4")
    return [(hex(4 * at), int(old[at]), int(new[at])) for at in np.flatnonzero(old != new).tolist()]


def test_nothing_but_a_gdb_server_is_needed(darwin: ByHand) -> None:
    with attached(darwin, "bare-gdb") as kernel:
        assert kernel.pid == darwin.process.pid
        counted = kernel.patch("run_netisr", count=True)
        kernel.patch("ip_input", asm="nop")
        before = hits(kernel, counted.id)
        with kernel.stopped():
            pass
        assert darwin.runs()
        assert hits(kernel, counted.id) >= before
        assert kernel.verify().patched == 2
        with pytest.raises(Misuse, match="--console"):
            kernel.log.lines()
        with pytest.raises(Misuse, match="detach bare-gdb"):
            kernel.shutdown()
        with pytest.raises(Misuse, match="savevm"):
            kernel.snapshot("tag")
    done = detach("bare-gdb")
    assert (done.removed, done.restored) == (2, True)
    assert "bare-gdb" not in [guest.name for guest in runtime.guests()]
    assert darwin.runs()


def test_what_is_refused_by_name(darwin: ByHand, tmp_path: Path) -> None:
    other = tmp_path / "other"
    image = Image.load(darwin.kernel)
    code = max(image.code_sections(), key=lambda section: section.size)
    raw = bytearray(darwin.kernel.read_bytes())
    at = raw.index(code.data[:64])
    raw[at : at + code.size] = bytes(4 * (code.size // 4))
    other.write_bytes(raw)
    with pytest.raises(WrongKernel, match="is not the kernel that runs"):
        attach("mine", darwin.gdb, other)
    attach("mine", darwin.gdb, darwin.kernel).close()
    try:
        with pytest.raises(Misuse, match="attached to already: it is called 'mine'"):
            attach("again", darwin.gdb, darwin.kernel)
        with pytest.raises(Misuse, match="detach it"):
            Kernel.boot("darwin", "mine")
        with socket.socket(socket.AF_UNIX) as debugger, Kernel.attach("mine", wait=0) as kernel:
            debugger.connect(darwin.gdb.removeprefix("unix:"))
            debugger.sendall(b"+$?#3f")
            assert debugger.recv(1)
            with pytest.raises(TargetBusy, match=f"another debugger, process {os.getpid()}"):
                kernel.patch("run_netisr", count=True)
        darwin.resume()  # that debugger left it stopped
        found = {trait.topic: trait for trait in examine("mine")}
        assert {topic for topic, trait in found.items() if not trait.works} == {
            *("log", "hangs", "resets", "snapshots")
        }
        assert "without a stop" in found["ram"].found
        assert "--console" in found["log"].reason
    finally:
        detach("mine")
    with pytest.raises(UnknownGuest):
        catalog.guest("mine")


def test_a_client_that_dies_while_it_forgets(darwin: ByHand, monkeypatch: pytest.MonkeyPatch) -> None:
    def dies(*_: object, **__: object) -> None:
        raise Killed

    attach("forgot", darwin.gdb, darwin.kernel).close()
    with monkeypatch.context() as patched:
        patched.setattr(shutil, "rmtree", dies)
        with pytest.raises(Killed):
            detach("forgot")
    assert "forgot" not in catalog.names()
    attach("forgot", darwin.gdb, darwin.kernel).close()
    assert detach("forgot").restored


def test_one_that_has_ended_is_told_and_forgotten() -> None:
    with started("darwin") as guest:
        attach("short", guest.gdb, guest.kernel).close()
        guest.process.kill()
        guest.process.wait()
        found = catalog.guest("short")
        assert (found.state, "has ended" in found.reason) == ("ended", True)
        with pytest.raises(TargetLost, match="detach short"):
            Kernel.attach("short")
        done = detach("short")
        assert (done.restored, "has ended" in done.reason) == (False, True)
    assert "short" not in catalog.names()


@pytest.mark.linux
@pytest.mark.parametrize("file", [True, pytest.param(False, marks=pytest.mark.soak)])
def test_linux_with_its_monitor(file: bool) -> None:
    """Its file's code is what is in memory; without the file it is found there."""
    with started("linux") as guest:
        path = guest.kernel if file else None
        attach("by-qmp", guest.gdb, path, qmp=guest.qmp, console=guest.console).close()
        with Kernel.attach("by-qmp") as kernel:
            counted = kernel.patch("udp_sendmsg", count=True)
            assert hits(kernel, counted.id)
            assert kernel.log.lines()
            assert kernel.health.state == "running"
            kernel.patch(counted.site + 4, asm="nop")
            assert kernel.verify().patched == 2
            at, text = kernel.resolve("udp_sendmsg") - LINEAR, kernel.words(kernel.resolve("udp_sendmsg"), 64)
            assert guest.memory()[at : at + 256] != text.astype(">u4").tobytes()
        assert detach("by-qmp").removed == 2
        assert guest.runs()
        assert guest.memory()[at : at + 256] == text.astype(">u4").tobytes()


@pytest.mark.soak
@pytest.mark.timeout(1200)  # packet by packet, all of its RAM
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can start a QEMU of another user's")
def test_ram_that_only_the_debugger_can_read() -> None:
    """QEMU's process is behind a relay, and may not write where its monitor is told to."""
    with (
        started(str(EXAMPLE / "own.toml"), user="nobody") as guest,
        relayed(Path(guest.gdb.removeprefix("unix:"))) as port,
    ):
        before = guest.memory()
        attach("far", f":{port}", guest.kernel, arena="0x2000000..0x4000000").close()
        found = {trait.topic: trait for trait in examine("far")}
        assert (found["ram"].works, "by the debugger" in found["ram"].found) == (True, True)
        with Kernel.attach("far") as kernel:
            assert kernel.pid == 0
            counted = kernel.patch("step", count=True)
            assert hits(kernel, counted.id)
            assert kernel.verify().patched == 1
        assert detach("far").removed == 1
        assert guest.runs()
        hidden = slice(32 << 20, 64 << 20)
        assert changes(before[hidden], guest.memory()[hidden]) == []


@pytest.mark.parametrize("monitor", [True, False])
def test_it_is_paused_and_goes_on_when_asked(darwin: ByHand, monitor: bool) -> None:
    with attached(darwin, "halted", darwin.qmp if monitor else "") as kernel:
        assert kernel.resume() is False
        assert kernel.pause() is True
        assert not darwin.runs()
        assert kernel.pause() is False
        assert kernel.backtrace(lines=False)[0].frames
        assert len(kernel.threads()) > 20
        assert kernel.debug("-nx", "-batch", "-ex", "info registers pc") == 0
        assert not darwin.runs()
        assert kernel.resume() is True
        assert darwin.runs()
        assert kernel.debug("-nx", "-batch", "-ex", "backtrace 2") == 0
        assert darwin.runs()
        with pytest.raises(Misuse, match="savevm"):
            kernel.snapshots()
    detach("halted")


@pytest.mark.parametrize("monitor", [True, pytest.param(False, marks=pytest.mark.soak)])
def test_a_paused_guest_stays_paused_and_its_memory_is_as_it_was(darwin: ByHand, monitor: bool) -> None:
    darwin.pause()
    try:
        before = darwin.memory()
        with attached(darwin, "paused", darwin.qmp if monitor else "") as kernel:
            assert kernel.health.state == "paused"
            kernel.patch("run_netisr", count=True)
            kernel.patch("ip_input", asm="nop")
            kernel.patch("udp_input", asm="nop", via="trap")
            kernel.patch("udp_input", asm="nop", via="tails")
            assert kernel.verify().patched == 3
            assert darwin.memory() != before
        assert detach("paused").removed == 4
        assert not darwin.runs()
        assert changes(before, darwin.memory()) == []
    finally:
        darwin.resume()
