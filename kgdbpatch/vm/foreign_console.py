"""The console of a guest that somebody else started, where it is a socket or a terminal: it is recorded."""

from __future__ import annotations

import fcntl
import os
import socket
import sys
import time
from contextlib import ExitStack, suppress
from pathlib import Path

from kgdbpatch.errors import TargetBusy, TargetLost
from kgdbpatch.vm import recorder
from kgdbpatch.vm.launch import placed
from kgdbpatch.vm.lock import held, locked
from kgdbpatch.vm.peer import connected, users_of, wait_for_turn
from kgdbpatch.vm.server import PTY, UNIX, is_local

__all__ = ["is_stream", "kept", "let_go", "record"]

_LOOK = 0.05  # seconds between two looks: nobody tells
_GREETING = 5.0  # seconds for the other end to take a connection, or for another client to let go
_LINE, _SERVER, _ALIVE = range(3, 6)  # descriptors of the process
_LOCK = "recorder"  # the file that the process locks for as long as it lives


def is_stream(console: str) -> bool:
    """Tell whether a console, as `kgdbpatch.vm.server.console_place` returns it, is to be connected to."""
    return bool(console) and not console.startswith("/")


def kept(directory: Path) -> bool:
    """Tell whether a process keeps what the guest of this directory prints."""
    return held(directory / _LOCK)


def record(directory: Path, console: str, wait: float = _GREETING) -> None:
    """Connect to a console and have a process keep what it says, unless one does already.

    Raises `TargetLost` where nobody is at the other end, `TargetBusy` naming another who is connected.
    """
    with ExitStack() as closing:
        alive = os.open(directory / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        closing.callback(os.close, alive)
        try:
            fcntl.flock(alive, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        line = _connected(console, wait)
        closing.callback(os.close, line)
        path = directory / "console.sock"
        path.unlink(missing_ok=True)
        server = closing.enter_context(socket.socket(socket.AF_UNIX))
        server.bind(str(path))
        server.listen(16)
        log = str(directory / "console.log")
        os.posix_spawn(
            sys.executable,
            [sys.executable, "-I", recorder.__file__, str(_LINE), str(_SERVER), log],
            os.environ,
            file_actions=placed(
                {line: _LINE, server.fileno(): _SERVER, alive: _ALIVE},  # the lock is the child's from now on
                directory / "recorder.stderr",
            ),
            setsid=True,
        )


def let_go(directory: Path, wait: float = _GREETING) -> None:
    """Have the process that keeps the console end, which closes its line; the log goes with it."""
    if not kept(directory):
        return
    (directory / "console.log").unlink(missing_ok=True)
    with suppress(TargetBusy, FileNotFoundError), locked(directory / _LOCK, "", wait, create=False):
        pass


def _connected(console: str, wait: float) -> int:
    """Return a descriptor of the line, once it is our turn; errors as of `record`."""
    busy = f"--console: the guest's console at {console} is in use"
    if console.startswith(PTY):
        return _terminal(console, busy)
    if is_local(server := console.removeprefix(UNIX)):
        wait_for_turn(Path(server), busy, wait)
        end = time.monotonic() + wait
        while connected(Path(server)):  # also till QEMU has seen that the last one left
            if time.monotonic() >= end:
                raise TargetBusy(f"{busy} by a process that is not seen from here")
            time.sleep(_LOOK)
    try:
        if console.startswith(UNIX):
            with socket.socket(socket.AF_UNIX) as line:
                line.settimeout(_GREETING)
                line.connect(server)
                return line.detach()
        host, _, port = console.rpartition(":")
        with socket.create_connection((host.strip("[]"), int(port)), _GREETING) as line:
            return line.detach()
    except ConnectionRefusedError as error:
        raise TargetLost(f"--console: nobody listens at {console}") from error
    except OSError as error:
        raise _unreachable(console, error.strerror or str(error)) from error


def _terminal(console: str, busy: str) -> int:
    path = console.removeprefix(PTY)
    with ExitStack() as closing:
        try:
            line = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise _unreachable(console, error.strerror or str(error)) from error
        closing.callback(os.close, line)
        if not os.isatty(line):
            raise _unreachable(console, "it is no terminal")
        for pid, command in users_of(Path(path)):
            if pid != os.getpid():
                raise TargetBusy(f"{busy}, process {pid} ({command[:100]})")
        closing.pop_all()
        return line


def _unreachable(console: str, why: str) -> TargetLost:
    return TargetLost(f"--console: {console} cannot be connected to: {why}")
