"""Cut a client off from its guest at any point: its GDB's packets, or its own orders to GDB."""

from __future__ import annotations

import fcntl
import json
import os
import select
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from kgdbpatch.errors import TargetLost
from kgdbpatch.kernel import Kernel
from kgdbpatch.vm.gdb import Debugger, Session
from kgdbpatch.vm.gdb_process import Gdb
from kgdbpatch.vm.qemu import Qemu

__all__ = ["Killed", "Late", "Orders", "Wire"]


_DEADLINE = 10.0  # seconds for GDB to answer an empty row


class Killed(BaseException):
    """The client is dead: nothing of it runs on but what gives its own resources back."""


class Wire:
    """Stand between GDB and QEMU's GDB server, and end GDB by SIGKILL at one of its packets.

    ``sent`` is how many packets GDB has sent since `arm`. An armed wire passes so many of them, of
    the next one nothing or its first half, and then QEMU sees what it sees of a killed GDB. A ``late``
    packet is wholly on its way when GDB is killed: QEMU comes to read it when another GDB has connected.
    """

    def __init__(self, directory: Path, qemu: Path, gdb: Callable[[], int]) -> None:
        self.path = directory / "wire.sock"
        self._qemu, self._gdb = qemu, gdb
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self.path))
        self._listener.listen()
        self.arm(None)
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    @classmethod
    @contextmanager
    def laid(cls, kernel: Kernel, directory: Path) -> Iterator[Wire]:
        """Lay a wire through which every client of this process reaches the guest."""
        wire = cls(directory, Qemu.attach(kernel.name).gdb_socket, lambda: kernel.debugger.gdb_pid)
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(Qemu, "gdb_socket", property(lambda _: wire.path))
            try:
                yield wire
            finally:
                kernel.close()
                wire.close()

    def close(self) -> None:
        """Take no more connections, and wait for the last one's end."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()

    def arm(self, packets: int | None, *, half: bool = False, late: bool = False) -> None:
        """Cut behind so many packets, None: never; behind ``half`` of the next one, or all of it ``late``."""
        self._most, self._half, self._late = packets, half, late
        self.sent, self.cut = 0, False

    def _serve(self) -> None:
        while True:
            try:
                debugger, _ = self._listener.accept()
            except OSError:
                return
            with debugger, socket.socket(socket.AF_UNIX) as target:
                target.connect(str(self._qemu))
                answers = threading.Thread(target=self._pass, args=(target, debugger))
                answers.start()
                with suppress(OSError):
                    self._packets(debugger, target)
                for end in (target, debugger):
                    with suppress(OSError):
                        end.shutdown(socket.SHUT_RDWR)
                answers.join()

    @staticmethod
    def _pass(source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_RDWR)

    def _packets(self, debugger: socket.socket, target: socket.socket) -> None:
        """Pass what GDB sends on, packet by packet, until it ends or is to be ended."""
        held = b""
        while data := debugger.recv(1 << 16):
            held += data
            while held:
                start, end = held.find(b"$"), held.find(b"#")
                if start:  # acknowledgements, an interrupt
                    size = len(held) if start < 0 else start
                elif end < 0 or len(held) < end + 3:
                    break
                else:
                    size = end + 3
                    if self._most is not None and self.sent >= self._most:
                        self._kill(target, held[:size])
                        return
                    self.sent += 1
                target.sendall(held[:size])
                held = held[size:]

    def _kill(self, target: socket.socket, packet: bytes) -> None:
        if self._half:
            target.sendall(packet[: len(packet) // 2])
        self.cut, self._most = True, None
        os.kill(self._gdb(), signal.SIGKILL)
        if self._late:
            select.select([self._listener], [], [])
            target.sendall(packet)


class Orders:
    """Kill the client at one of its rows of orders to GDB: those before it are carried out, it is not.

    ``given`` is how many rows were given since `arm`, or since what it waits for. The last one may get into
    the pipe by half.
    """

    def __init__(self) -> None:
        self._dead: Gdb | None = None
        self.arm(None)

    @classmethod
    @contextmanager
    def heard(cls) -> Iterator[Orders]:
        """Hear the orders of every GDB of this process."""
        orders, ask = cls(), Gdb.ask

        def hear(gdb: Gdb, *row: str, **more: Any) -> list[str | None]:
            orders._hear(gdb, json.dumps(row).encode() + b"\n")
            return ask(gdb, *row, **more)

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(Gdb, "ask", hear)
            yield orders

    def arm(
        self, orders: int | None, *, half: bool = False, since: Callable[[], bool] = lambda: True
    ) -> None:
        """Kill behind so many rows, None: never, and behind ``half`` of the next one.

        They are counted once ``since`` has been true before one.
        """
        self._most, self._half, self._since, self._counts = orders, half, since, False
        self.given, self.killed, self._dead = 0, False, None

    def _hear(self, gdb: Gdb, data: bytes) -> None:
        if gdb is self._dead:
            raise TargetLost("the client is dead")
        self._counts = self._counts or self._since()
        if not self._counts:
            return
        if self.given == self._most:
            if self._half:
                os.write(gdb.orders, data[: len(data) // 2])
            self._dead, self._most, self.killed = gdb, None, True
            gdb.close()
            raise Killed
        self.given += 1


class Late:
    """Let a client die when it has given a row to its GDB, which comes to it late.

    GDB stands still from just before the row is given until another client is about to stop the
    guest: whatever that one has read by then is of the past.
    """

    def __init__(self) -> None:
        self._ask = Gdb.ask
        self._dead: Gdb | None = None
        self._stands = False
        self.arm(None)

    @classmethod
    @contextmanager
    def rows(cls) -> Iterator[Late]:
        """Hear the orders of every GDB of this process."""
        late, stopped = cls(), Debugger.stopped

        def hear(gdb: Gdb, *row: str, **more: Any) -> list[str | None]:
            late._hear(gdb, json.dumps(row).encode() + b"\n")
            return late._ask(gdb, *row, **more)

        def stop(debugger: Debugger) -> AbstractContextManager[Session]:
            late.go_on()
            return stopped(debugger)

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(Gdb, "ask", hear)
            patched.setattr(Debugger, "stopped", stop)
            try:
                yield late
            finally:
                late.go_on()

    def arm(self, rows: int | None) -> None:
        """Let the client die in the row behind so many, None: never."""
        self._most, self.given, self.killed = rows, 0, False

    def _hear(self, gdb: Gdb, data: bytes) -> None:
        if gdb is self._dead:
            raise TargetLost("the client is dead")
        if self.given == self._most:
            fcntl.fcntl(gdb.orders, fcntl.F_SETPIPE_SZ, 1 << 20)
            self._ask(gdb, deadline=_DEADLINE)  # from here on it takes rows
            os.kill(gdb.pid, signal.SIGSTOP)
            assert os.write(gdb.orders, data) == len(data), "the pipe is too small for the row"
            gdb.hang_up()
            self._dead, self._most, self.killed, self._stands = gdb, None, True, True
            raise Killed
        self.given += 1

    def go_on(self) -> None:
        """Let the dead client's GDB go on with what it was given."""
        if self._stands and self._dead is not None:
            self._stands = False
            os.kill(self._dead.pid, signal.SIGCONT)
