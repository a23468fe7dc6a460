"""A process that keeps what a guest of somebody else's prints, when no file of QEMU's does.

QEMU's socket or terminal serves one at a time, and what is printed while nobody is there is lost. So one
process is connected for as long as the guest is attached to: it writes what comes to the log that all read,
and hands on what they type by a socket of its own, one after the other, as QEMU does it itself
(`kgdbpatch.vm.console.Typing`). It ends when QEMU closes the line, or the log is deleted.
"""

from __future__ import annotations

import fcntl
import os
import select
import signal
import socket
import sys
import termios
import tty
from contextlib import suppress
from pathlib import Path

from inotify_simple import INotify, flags

_CHUNK = 1 << 16  # bytes
_LOOK = 20  # ms between two looks: nobody tells when QEMU has read what was typed


class Recorder:
    """Join ``line``, a descriptor, to ``log`` and to whoever connects to ``server``."""

    def __init__(self, line: int, server: socket.socket, log: Path) -> None:
        self._line, self._server, self._log = line, server, log
        self._kept = os.open(log, os.O_WRONLY | os.O_APPEND)  # not created: that it is gone is the end
        self._gone = INotify()
        self._gone.add_watch(log.parent, flags.DELETE)
        self._client: socket.socket | None = None
        self._typed = b""  # not yet handed on
        self._ended = False  # the client will type no more
        os.set_blocking(line, False)

    def run(self) -> None:
        """Return when the line is closed at its other end, or nobody wants it any more."""
        while self._log.exists():
            self._wait()
            self._gone.read(timeout=0)
            if not self._receive():
                return
            self._accept()
            self._send()

    def _wait(self) -> None:
        poll, wait = select.poll(), None
        poll.register(self._gone.fileno(), select.POLLIN)
        poll.register(self._line, select.POLLIN | (select.POLLOUT if self._typed else 0))
        if self._client is None:
            poll.register(self._server.fileno(), select.POLLIN)
        elif not self._typed and not self._ended:
            poll.register(self._client.fileno(), select.POLLIN)
        elif not self._typed:
            wait = _LOOK
        poll.poll(wait)

    def _receive(self) -> bool:
        try:
            data = os.read(self._line, _CHUNK)
        except BlockingIOError:
            return True
        except OSError:  # of a terminal: its other end is closed
            return False
        os.write(self._kept, data)
        return bool(data)

    def _accept(self) -> None:
        if self._client is None:
            with suppress(BlockingIOError):
                self._client, _ = self._server.accept()
                self._client.setblocking(False)
                self._ended = False

    def _send(self) -> None:
        if self._client is not None and not self._typed and not self._ended:
            with suppress(BlockingIOError):
                with suppress(ConnectionError):
                    self._typed = self._client.recv(_CHUNK)
                self._ended = not self._typed
        try:
            with suppress(BlockingIOError):
                while self._typed:
                    self._typed = self._typed[os.write(self._line, self._typed) :]
        except OSError:  # closed: the next read says so
            self._typed = b""
        if self._client is not None and self._ended and not self._typed and not _unread(self._line):
            self._client.close()
            self._client = None


def _unread(line: int) -> int:
    """Return how many bytes QEMU has not taken yet (unix(7), SIOCOUTQ; 0 of a terminal)."""
    try:
        return int.from_bytes(fcntl.ioctl(line, termios.TIOCOUTQ, bytes(4)), sys.byteorder)
    except OSError:
        return 0


def main(words: list[str]) -> None:
    """Run: descriptors of the line and of a listening socket, and the log's path."""
    line, server, log = int(words[0]), socket.socket(fileno=int(words[1])), Path(words[2])
    server.setblocking(False)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    before = termios.tcgetattr(line) if os.isatty(line) else None
    try:
        if before is not None:
            tty.setraw(line, termios.TCSANOW)  # else it would echo to the guest what that prints
        with suppress(FileNotFoundError):
            Recorder(line, server, log).run()
    finally:
        if before is not None:
            with suppress(termios.error):
                termios.tcsetattr(line, termios.TCSANOW, before)


if __name__ == "__main__":
    main(sys.argv[1:])
