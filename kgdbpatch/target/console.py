"""The guest's console: everything it printed since power-on, for any number of readers; one may type."""

from __future__ import annotations

import os
import re
import select
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from inotify_simple import INotify, flags

from kgdbpatch.errors import TargetLost, TargetTimeout
from kgdbpatch.target.process import Process

__all__ = ["Console", "Owner"]

_TAIL = 10  # lines that an error quotes
_LONGEST_LINE = 1 << 16  # bytes


class Owner(Protocol):
    """Who prints: something that can end, and says how it did."""

    @property
    def process(self) -> Process:
        """The process that writes the log."""

    def lost(self) -> TargetLost:
        """Return the error that says how it ended."""


class Console:
    """Read the log file that QEMU keeps of the console; positions are byte offsets in it."""

    def __init__(self, path: Path, socket_path: Path, owner: Owner) -> None:
        self._path, self._socket, self._owner = path, socket_path, owner

    def position(self) -> int:
        """Return the place behind the last line printed so far; an unfinished line lies after it."""
        try:
            start = max(0, self._path.stat().st_size - _LONGEST_LINE)
        except FileNotFoundError:
            raise self._owner.lost() from None
        return start + self._read(start).rfind(b"\n") + 1

    def lines(self, since: int = 0) -> list[str]:
        """Return the complete lines printed since ``since``, without their ends."""
        printed = self._read(since)
        return [_text(line) for line in printed.split(b"\n")[:-1]]

    def size(self) -> int:
        """Return how many bytes were printed so far."""
        try:
            return self._path.stat().st_size
        except FileNotFoundError:
            raise self._owner.lost() from None

    def silent(self) -> float:
        """Return for how many seconds (of the host's) nothing has been printed."""
        try:
            return max(0.0, time.time() - self._path.stat().st_mtime)
        except FileNotFoundError:
            raise self._owner.lost() from None

    def _read(self, since: int) -> bytes:
        try:
            with self._path.open("rb") as log:
                log.seek(since)
                return log.read()
        except FileNotFoundError:
            raise self._owner.lost() from None

    def follow(self, since: int = 0, deadline: float | None = None) -> Iterator[str]:
        """Yield complete lines as they come; end ``deadline`` seconds from now, or never.

        Raises `TargetLost` when QEMU ends, after its last line.
        """
        return (line for line, complete in self._follow(since, deadline) if complete)

    def wait(
        self, pattern: str, deadline: float = 10.0, since: int = 0, *, partial: bool = False
    ) -> re.Match[str]:
        """Return the match of regex ``pattern`` in the first line since ``since`` that has one.

        Its ``string`` is the line. With ``partial`` a line not yet ended, such as a prompt,
        may match too. Raises `TargetTimeout` with the last lines after ``deadline`` seconds,
        `TargetLost` when QEMU ends.
        """
        wanted = re.compile(pattern)
        for line, complete in self._follow(since, deadline):
            found = wanted.search(line) if complete or partial else None
            if found:
                return found
        raise self.timeout(pattern, deadline)

    def timeout(self, pattern: str, deadline: float) -> TargetTimeout:
        """Return the error that says what did not come and what came last."""
        printed = self._read(0).rstrip(b"\n").split(b"\n")[-_TAIL:] if self.size() else []
        last = "".join(f"\n  {_text(line)}" for line in printed) or " nothing"
        return TargetTimeout(
            f"no line like /{pattern}/ on the console within {deadline:g} s; its last lines:{last}"
        )

    def _follow(self, since: int, deadline: float | None) -> Iterator[tuple[str, bool]]:
        """Yield (line, whether it is complete); an unfinished line comes again when it has grown."""
        end = None if deadline is None else time.monotonic() + deadline
        process = self._owner.process
        try:
            log = self._path.open("rb", buffering=0)
        except FileNotFoundError:
            raise self._owner.lost() from None
        with log, INotify() as changes:
            changes.add_watch(self._path, flags.MODIFY)
            poll = select.poll()
            poll.register(changes.fileno(), select.POLLIN)
            if process.fileno() >= 0:
                poll.register(process.fileno(), select.POLLIN)
            log.seek(since)
            rest = b""
            while True:
                ended = process.wait(0)  # asked before reading: what it printed last is read then
                more = log.read()
                if more:
                    *complete, rest = (rest + more).split(b"\n")
                    yield from ((_text(line), True) for line in complete)
                    if rest:
                        yield _text(rest), False
                    continue
                if ended:
                    raise self._owner.lost()
                left = None if end is None else end - time.monotonic()
                if left is not None and left <= 0:
                    return
                poll.poll(None if left is None else left * 1000 + 1)
                changes.read(timeout=0)

    def send(self, text: str, deadline: float = 10.0) -> None:
        """Type ``text``; return when the guest has taken it.

        Raises `TargetTimeout` when it does not within ``deadline`` seconds; some of it may have
        been taken then.
        """
        end = time.monotonic() + deadline
        try:
            with socket.socket(socket.AF_UNIX) as line:
                line.settimeout(deadline)
                line.connect(os.fspath(self._socket))
                line.sendall(text.encode())
                line.shutdown(socket.SHUT_WR)
                while line.recv(65536):  # QEMU hangs up once it has handed on the last byte
                    line.settimeout(max(end - time.monotonic(), 0.001))
        except TimeoutError as error:
            raise TargetTimeout(f"the guest did not take its console input within {deadline:g} s") from error
        except OSError as error:
            if self._owner.process.wait(0.2):
                raise self._owner.lost() from error
            raise TargetLost(f"the console cannot be written: {error.strerror}") from error


def _text(line: bytes) -> str:
    return line.decode(errors="replace").strip("\r")  # early consoles send it behind the newline
