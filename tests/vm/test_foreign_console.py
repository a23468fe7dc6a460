"""The console of somebody else's QEMU is read and typed at, whatever it is, and left to others afterwards."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from kgdbpatch.errors import KgdbPatchError, Misuse, TargetBusy, TargetLost
from kgdbpatch.vm.console import Console
from kgdbpatch.vm.foreign_console import kept, let_go, record
from kgdbpatch.vm.peer import users_of
from kgdbpatch.vm.process import Process
from kgdbpatch.vm.server import console_place

PROMPT = r"^0 > $"
KINDS = ["unix", "tcp", "pty"]


class Owner:
    def __init__(self, pid: int) -> None:
        self.process = Process.child(pid)

    def lost(self) -> TargetLost:
        return TargetLost("gone")


@contextmanager
def firmware(kind: str, directory: Path) -> Iterator[tuple[str, int]]:
    """Start a QEMU as somebody would, its console of one kind; yield that as a user names it, and its pid."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        port = found.getsockname()[1]
    how = {
        "unix": f"unix:{directory / 'serial'},server=on,wait=off",
        "tcp": f"tcp:127.0.0.1:{port},server=on,wait=off",
        "pty": "pty",
    }
    board = ["-M", "g3beige", "-m", "64", "-nographic", "-vga", "none", "-nic", "none"]
    command = ["qemu-system-ppc", *board, "-prom-env", "auto-boot?=false", "-serial", how[kind]]
    with subprocess.Popen(
        [*command, "-monitor", "none"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
    ) as qemu:
        try:
            assert qemu.stdout is not None
            terminal = re.search(r"/dev/pts/\d+", qemu.stdout.readline() if kind == "pty" else "")
            place = {"unix": f"unix:{directory / 'serial'}", "tcp": f":{port}"}.get(kind)
            yield place or (terminal[0] if terminal else ""), qemu.pid
        finally:
            qemu.kill()


def reached(place: str, directory: Path) -> str:
    """Begin to record; wait for a QEMU that has just been started."""
    directory.mkdir(exist_ok=True)
    (directory / "console.log").touch()
    until = time.monotonic() + 20
    while time.monotonic() < until:
        with suppress(TargetLost, Misuse):
            console = console_place(place, remote=False)
            record(directory, console)
            return console
        time.sleep(0.02)  # nobody tells when a server listens
    pytest.fail("nobody listens")


def answers(console: Console, first: int) -> None:
    since = console.position()
    console.send(f"{first} 22 + .\r")
    assert console.wait(rf"{first} 22 \+ \. +(\d+)", 20, since)[1] == str(first + 22)


@pytest.mark.guest
@pytest.mark.parametrize("kind", KINDS)
def test_it_is_read_and_typed_at_and_left(kind: str, tmp_path: Path) -> None:
    with firmware(kind, tmp_path) as (place, pid):
        ours, other = tmp_path / "ours", tmp_path / "other"
        where = reached(place, ours)
        console = Console(ours / "console.log", ours / "console.sock", Owner(pid))
        console.send("\r")  # what was printed before we came is lost
        console.wait(PROMPT, 20, partial=True)
        answers(console, 20)
        answers(console, 4000)

        other.mkdir()
        (other / "console.log").touch()
        ((keeper, _),) = users_of(ours / "console.log")
        with pytest.raises(TargetBusy, match=rf"console at .* is in use.*process {keeper} "):
            record(other, where, 0)

        os.kill(keeper, signal.SIGKILL)
        until = time.monotonic() + 10
        while kept(ours):
            assert time.monotonic() < until
            time.sleep(0.01)
        record(ours, where)
        answers(console, 7)

        let_go(ours)
        assert not kept(ours)
        record(other, where)  # it is anybody's
        answers(Console(other / "console.log", other / "console.sock", Owner(pid)), 5)
        os.kill(pid, signal.SIGKILL)
        while kept(other):  # nobody is left to be listened to
            assert time.monotonic() < until + 10
            time.sleep(0.01)


@pytest.mark.guest
def test_a_terminal_gets_its_mode_back(tmp_path: Path) -> None:
    with firmware("pty", tmp_path) as (place, pid):
        descriptor = os.open(place, os.O_RDWR | os.O_NOCTTY)
        mode = termios.tcgetattr(descriptor)
        mode[3] |= termios.ECHO | termios.ICANON
        termios.tcsetattr(descriptor, termios.TCSANOW, mode)
        before = termios.tcgetattr(descriptor)
        os.close(descriptor)
        reached(place, tmp_path / "ours")
        answers(Console(tmp_path / "ours/console.log", tmp_path / "ours/console.sock", Owner(pid)), 1)
        let_go(tmp_path / "ours")
        descriptor = os.open(place, os.O_RDWR | os.O_NOCTTY)
        assert termios.tcgetattr(descriptor) == before
        os.close(descriptor)


@pytest.mark.guest
def test_who_holds_it_keeps_it(tmp_path: Path) -> None:
    with firmware("unix", tmp_path) as (place, _):
        where = reached(place, tmp_path / "ours")
        let_go(tmp_path / "ours")
        (tmp_path / "ours/console.log").touch()
        with socket.socket(socket.AF_UNIX) as user:
            user.connect(str(tmp_path / "serial"))
            for sum in (42, 43):
                user.sendall(f"{sum - 22} 22 + .\r".encode())
                seen = b""
                while str(sum).encode() not in seen:
                    seen += user.recv(1000)
                with pytest.raises(TargetBusy, match=f"in use, process {os.getpid()} "):
                    record(tmp_path / "ours", where, 0)


def refusal(place: str, remote: bool = False) -> KgdbPatchError:
    with pytest.raises(KgdbPatchError) as error:
        console_place(place, remote=remote)
    return error.value


def test_what_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "serial.log").touch()
    (tmp_path / "a:1").touch()
    for text in ("serial.log", "./serial.log", f"file:{tmp_path}/serial.log"):
        assert console_place(text, remote=False) == str(tmp_path / "serial.log")
    assert console_place("a:1", remote=False) == str(tmp_path / "a:1")
    assert console_place(":4444", remote=False) == "localhost:4444"
    assert console_place("tcp:127.0.0.1:4444", remote=False) == "127.0.0.1:4444"
    assert console_place("10.0.0.1:4444", remote=True) == "10.0.0.1:4444"
    master, slave = os.openpty()
    terminal = os.ttyname(slave)
    assert console_place(terminal, remote=False) == console_place(f"pty:{terminal}", remote=False)
    assert console_place(terminal, remote=False) == f"pty:{terminal}"
    os.close(master)
    os.close(slave)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("s")
        assert console_place("s", remote=False) == console_place("unix:s", remote=False)
    assert "asks nobody who he is" in str(refusal("10.0.0.1:4444"))
    assert refusal("10.0.0.1:4444").exit_code == 2
    for text in ("none", str(tmp_path), "pty:serial.log", "file:none"):
        error = refusal(text)
        assert (error.exit_code, "no such file, terminal or socket" in str(error)) == (2, True), text
    assert refusal(":99999").exit_code == 2
    assert refusal("unix:").exit_code == 2
    assert refusal("unix:none").exit_code == 4
    assert "is no socket" in str(refusal("unix:serial.log"))


def test_nobody_listens(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s"))
    (tmp_path / "console.log").touch()
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    for place in (f"unix:{tmp_path / 's'}", f"localhost:{port}"):
        with pytest.raises(TargetLost, match=f"nobody listens at {place}"):
            record(tmp_path, place, 0)
        assert not kept(tmp_path)
    with pytest.raises(TargetLost, match="/dev/null cannot be connected to: it is no terminal"):
        record(tmp_path, "pty:/dev/null", 0)
