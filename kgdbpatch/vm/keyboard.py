"""Text on its way to the guest's console, through QEMU's socket.

Each text has a connection of its own, and only for as long as the guest takes it. QEMU (7.2, 10.0) writes
the guest's output to whoever is connected and waits when it is not read: 278 bytes later the guest stands
still, and QEMU's monitor with it. So nobody stays connected to read; `Follower` reads the log.
"""

from __future__ import annotations

import os
import select
import socket
from pathlib import Path

__all__ = ["Typing"]


class Typing:
    """A text that is being typed; a context manager. Errors are `OSError`.

    Connecting waits ``deadline`` seconds (`TimeoutError`) where very many others wait already.
    """

    def __init__(self, path: Path, text: bytes, deadline: float) -> None:
        self._rest = memoryview(text)
        self._line = socket.socket(socket.AF_UNIX)
        try:
            self._line.settimeout(max(deadline, 0.001))
            self._line.connect(os.fspath(path))
        except BaseException:
            self._line.close()
            raise
        self._line.setblocking(False)
        self._finish()

    def fileno(self) -> int:
        """Return the socket's descriptor."""
        return self._line.fileno()

    @property
    def events(self) -> int:
        """What to poll the socket for."""
        return select.POLLIN | (select.POLLOUT if self._rest else 0)

    def step(self) -> bool:
        """Pass on what can be, without waiting; tell whether the guest has taken all of it."""
        try:
            while self._rest:
                self._rest = self._rest[self._line.send(self._rest) :]
                self._finish()
        except BlockingIOError:
            pass
        try:
            while self._line.recv(1 << 16):  # the guest's output, which is in the log as well
                pass
        except BlockingIOError:
            return False
        return not self._rest  # QEMU hangs up once it has handed on the last byte

    def _finish(self) -> None:
        if not self._rest:
            self._line.shutdown(socket.SHUT_WR)

    def __enter__(self) -> Typing:
        return self

    def __exit__(self, *_: object) -> None:
        self._line.close()
