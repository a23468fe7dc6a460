"""The log of QEMU's own events: what happened to a guest while nobody looked.

A second QMP monitor writes to a file (``events.out``); what it reads comes from a FIFO
(``events.in``) with the one command that lets events through. QEMU holds both ends of the FIFO, so
the monitor sees no end of it. (QEMU, "QEMU Machine Protocol Specification", 3.3 and the events of
qapi/run-state.json.)
"""

from __future__ import annotations

import json
import os
from pathlib import Path

__all__ = ["EventLog", "prepared"]

_IN, _OUT = "events.in", "events.out"
_GREETING = b'{"execute": "qmp_capabilities"}\n'


def prepared(directory: Path) -> tuple[int, list[str]]:
    """Make the log's files; return a descriptor that QEMU must inherit, and its arguments."""
    os.mkfifo(directory / _IN, 0o600)
    (directory / _OUT).touch(0o600)
    descriptor = os.open(directory / _IN, os.O_RDWR | os.O_CLOEXEC)
    os.write(descriptor, _GREETING)
    path = str(directory / "events").replace(",", ",,")
    return descriptor, ["-chardev", f"pipe,id=events,path={path}", "-mon", "chardev=events,mode=control"]


class EventLog:
    """Read a guest's events; nothing is known of a QEMU that keeps no such log.

    ``stopped`` says whether the guest stands still (None: not known), ``resets`` are
    (place in the log, reason), ``ending`` is why QEMU said that it ends.
    """

    def __init__(self, directory: Path) -> None:
        self._path = directory / _OUT
        self._read, self._rest = 0, b""
        self.stopped: bool | None = None
        self.resets: list[tuple[int, str]] = []
        self.ending: str | None = None

    def position(self) -> int:
        """Return the place behind the last event."""
        try:
            return self._path.stat().st_size
        except OSError:
            return 0

    def update(self) -> EventLog:
        """Take notice of what has happened since the last time; return the log itself."""
        try:
            with self._path.open("rb") as log:
                log.seek(self._read)
                more = log.read()
        except OSError:
            return self
        start = self._read - len(self._rest)
        self._read += len(more)
        *lines, self._rest = (self._rest + more).split(b"\n")
        for line in lines:
            self._take(start, line)
            start += len(line) + 1
        return self

    def _take(self, place: int, line: bytes) -> None:
        if self.stopped is None and line.startswith(b'{"QMP"'):
            self.stopped = False  # until told otherwise: we never start a guest stopped
        if b'"event"' not in line:
            return
        try:
            event = json.loads(line)
        except ValueError:
            return
        reason = str((event.get("data") or {}).get("reason", "")).replace("-", " ")
        if event["event"] in ("STOP", "RESUME"):
            self.stopped = event["event"] == "STOP"
        elif event["event"] == "RESET":
            self.resets.append((place, reason))
        elif event["event"] == "SHUTDOWN":
            self.ending = reason
