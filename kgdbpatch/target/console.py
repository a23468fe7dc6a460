"""A guest's console: everything it printed, read from QEMU's log file by any number of readers."""

from __future__ import annotations

import re
import select
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from inotify_simple import INotify, flags

from kgdbpatch.errors import TargetLost, TargetTimeout

__all__ = ["Console"]

_TAIL = 8  # lines quoted when something awaited does not come
_LOOK = 2.0  # seconds between looks at QEMU's life while nothing is printed


class Console:
    """Read lines from the file ``path``; ``dead()`` returns an error when QEMU has ended."""

    def __init__(self, path: Path, dead: Callable[[], TargetLost | None]) -> None:
        self._path, self._dead = path, dead

    def position(self) -> int:
        """Return the end of the last whole line printed so far, a byte offset for ``since``."""
        return self._path.read_bytes().rfind(b"\n") + 1

    def lines(self, since: int = 0) -> list[str]:
        """Return the whole lines printed since the offset ``since``."""
        with self._path.open("rb") as file:
            file.seek(since)
            return [_text(line) for line in file.read().split(b"\n")[:-1]]

    def follow(self, since: int = 0, deadline: float | None = None) -> Iterator[str]:
        """Yield lines as they come; end ``deadline`` seconds from now, or when QEMU ends (`TargetLost`)."""
        until = None if deadline is None else time.monotonic() + deadline
        with INotify() as watch, self._path.open("rb") as file:
            watch.add_watch(str(self._path), flags.MODIFY)
            file.seek(since)
            pending = b""
            while True:
                dead = self._dead()  # asked before reading, so that nothing printed is missed
                pending += file.read()
                *whole, pending = pending.split(b"\n")
                for line in whole:
                    yield _text(line)
                    if until is not None and time.monotonic() > until:
                        return
                if dead is not None:
                    raise dead
                left = _LOOK if until is None else min(_LOOK, until - time.monotonic())
                if left <= 0:
                    return
                select.select([watch.fileno()], [], [], left)
                watch.read(timeout=0)

    def wait(self, pattern: str, deadline: float, since: int = 0) -> re.Match[str]:
        """Return the match of the regex ``pattern`` in the first line that has one.

        Raises `TargetTimeout` with the console's last lines after ``deadline`` seconds.
        """
        wanted = re.compile(pattern)
        for line in self.follow(since, deadline):
            if match := wanted.search(line):
                return match
        raise self.timeout(pattern, deadline)

    def timeout(self, pattern: str, deadline: float) -> TargetTimeout:
        """Return the error that says that ``pattern`` did not come, with the last lines."""
        tail = self.lines()[-_TAIL:]
        return TargetTimeout(f"no line matching '{pattern}' within {deadline:g} s; the console ends: {tail}")

    def send(self, text: str) -> None:
        """Type ``text`` into the guest's console."""
        with socket.socket(socket.AF_UNIX) as line:
            line.connect(str(self._path.with_name("console.sock")))
            line.sendall(text.encode())


def _text(line: bytes) -> str:
    return line.decode(errors="replace").rstrip("\r")
