from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from kgdbpatch.errors import Misuse, TargetLost, UnknownGuest
from kgdbpatch.vm.machine import MachineDescription
from kgdbpatch.vm.process import Process
from kgdbpatch.vm.qemu import Qemu
from kgdbpatch.vm.runtime import ended, guests, record

from .baremetal import Starter

BOARD = MachineDescription.load("g3beige")


@pytest.mark.parametrize("name", ["", ".", "..", ".hidden", "a/b", "a b", "ä", "x" * 65, "a\n"])
def test_bad_names(runtime: Path, name: str) -> None:
    with pytest.raises(Misuse, match="guest name"):
        Qemu.start(name, BOARD, 32)
    with pytest.raises(UnknownGuest):
        record(name)
    assert guests() == []


def test_directory_too_deep_for_sockets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KGDBPATCH_RUNTIME", str(tmp_path / ("d" * 90)))
    with pytest.raises(Misuse, match=r"sockets .* limit is 107; set KGDBPATCH_RUNTIME"):
        Qemu.start("g", BOARD, 32)


def test_directory_open_to_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KGDBPATCH_RUNTIME", str(tmp_path))
    tmp_path.chmod(0o755)
    with pytest.raises(Misuse, match="open to other users"):
        guests()
    tmp_path.chmod(0o700)
    assert guests() == []


def test_directory_that_is_a_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    monkeypatch.setenv("KGDBPATCH_RUNTIME", str(tmp_path / "link"))
    with pytest.raises(Misuse, match="not a directory of your own"):
        guests()


@pytest.mark.guest
def test_guests_are_found_and_dead_ones_kept(start: Starter) -> None:
    kept, crashed = start("kept"), start("crashed")
    assert [guest.name for guest in guests()] == ["crashed", "kept"]
    os.kill(crashed.pid, signal.SIGKILL)
    assert crashed.process.wait(5)
    assert [guest.name for guest in guests()] == ["kept"]
    assert [guest.name for guest in ended()] == ["crashed"]
    left = {path.name for path in crashed.directory.iterdir()}
    assert {"guest.json", "console.log", "qemu.stderr", "exit"} <= left
    assert "snapshots.qcow2" not in left
    assert kept.alive()
    again = start("crashed")
    crashed.shutdown()  # must not touch its successor
    assert again.alive()
    assert Qemu.attach("crashed").hmp("info status") == "VM status: running"


@pytest.mark.guest
def test_a_dead_guest_is_reported_with_its_last_words(start: Starter) -> None:
    qemu = start("dead")
    os.kill(qemu.pid, signal.SIGKILL)
    assert qemu.process.wait(5)
    with pytest.raises(TargetLost, match=r"guest 'dead' is gone: QEMU ended \(killed by SIGKILL\)"):
        Qemu.attach("dead")
    with pytest.raises(TargetLost, match="killed by SIGKILL"):
        qemu.hmp("info status")
    with pytest.raises(TargetLost, match="killed by SIGKILL"):
        qemu.ram.read(0, 4)


@pytest.mark.guest
def test_reused_pid_is_no_guest(start: Starter) -> None:
    qemu = start("reused")
    path = qemu.directory / "guest.json"
    known = json.loads(path.read_text())
    for stale in ({"started": known["started"] - 1}, {"host_boot": "another"}):
        path.write_text(json.dumps(known | stale))
        with pytest.raises(TargetLost, match="is gone"):
            Qemu.attach("reused")
    for damaged in ("", "[]", json.dumps(known | {"more": 1})):
        path.write_text(damaged)
        with pytest.raises(TargetLost, match=rf"damaged or of another version .*process {qemu.pid}\)"):
            Qemu.attach("reused")
        assert [(guest.name, guest.pid) for guest in guests() if guest.damage] == [("reused", qemu.pid)]
    path.write_text(json.dumps(known))
    assert Qemu.attach("reused").alive()


def test_a_damaged_record_of_an_ended_guest_is_a_leftover(runtime: Path) -> None:
    directory = runtime / "old"
    directory.mkdir()
    (directory / "guest.json").write_text('{"name": "old"}')
    (directory / "pid").write_text(f"{os.getpid()}\n")  # reused by a process that is no QEMU of ours
    with pytest.raises(UnknownGuest):
        record("old")
    assert guests() == []
    assert not directory.exists()


@pytest.mark.guest
def test_a_qemu_whose_client_died_before_recording_it_is_ended(start: Starter) -> None:
    qemu = start("unrecorded")
    (qemu.directory / "guest.json").unlink()
    assert guests() == []
    assert not qemu.alive()
    assert not qemu.directory.exists()


def test_process_of_another_start_time_counts_as_ended() -> None:
    own = Process.child(os.getpid())
    assert own.alive()
    assert not Process(os.getpid(), own.started + 1).alive()
    assert not Process(2**22 - 1, 1).alive()
