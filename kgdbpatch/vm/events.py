"""The log of QEMU's own events: what happened to a guest while nobody looked.

A second QMP monitor writes to a file (``events.out``) and reads a FIFO (``events.in``) with the one command
that lets events through; QEMU holds both ends of it, so it has no end. (QEMU Machine Protocol Specification,
3.3; qapi/run-state.json.)
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

__all__ = ["PIECE", "EventLog", "prepared"]

_IN, _OUT = "events.in", "events.out"
_GREETING = b'{"execute": "qmp_capabilities"}\n'
PIECE = 1 << 20  # bytes taken at once of what has not been read yet


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

    ``stopped`` (None: not known), ``resets`` as (place in the log, reason), ``ending``: why QEMU said it
    ends.
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
        """Take notice of what is new, parsing only what matters of a long log; return the log."""
        try:
            with self._path.open("rb") as log:
                log.seek(self._read)
                while more := log.read(PIECE):
                    self._add(more)
        except OSError:
            pass
        return self

    def _add(self, more: bytes) -> None:
        place = self._read - len(self._rest)
        self._read += len(more)
        lines, newline, rest = (self._rest + more).rpartition(b"\n")
        self._rest = rest
        if not newline:
            return
        if self.stopped is None and b'{"QMP"' in lines:
            self.stopped = False  # until told otherwise: we never start a guest stopped
        for kind, _, _ in _events(lines, "STOP", "RESUME", last=True):
            self.stopped = kind == "STOP"
        for kind, reason, at in _events(lines, "RESET", "SHUTDOWN"):
            if kind == "RESET":
                self.resets.append((place + at, reason))
            else:
                self.ending = reason


def _events(lines: bytes, *kinds: str, last: bool = False) -> Iterator[tuple[str, str, int]]:
    """Yield (kind, reason, place) of events of some kinds in their order; only each's ``last`` if wanted."""
    found: list[tuple[str, str, int]] = []
    for kind in kinds:
        word, at = f'"{kind}"'.encode(), len(lines) if last else 0
        while (at := lines.rfind(word, 0, at) if last else lines.find(word, at)) >= 0:
            start = lines.rfind(b"\n", 0, at) + 1
            end = lines.find(b"\n", at)
            event = _parsed(lines[start : end if end >= 0 else len(lines)])
            if event.get("event") == kind:
                reason = str((event.get("data") or {}).get("reason", "")).replace("-", " ")
                found.append((kind, reason, start))
                if last:
                    break
            at = start if last else at + len(word)
    yield from sorted(found, key=lambda event: event[2])


def _parsed(line: bytes) -> dict[str, Any]:
    try:
        event = json.loads(line)
    except ValueError:
        return {}
    return event if isinstance(event, dict) else {}
