"""A console passed on to a person or a script: what they write is typed, what is printed they see."""

from __future__ import annotations

import os
import re
import select
import time
from collections.abc import Callable
from contextlib import ExitStack

from kgdbpatch.vm.console import Console, Typing
from kgdbpatch.vm.follow import Follower

__all__ = ["Relay"]

_CHUNK = 1 << 16  # bytes
_LAST = 1.0  # seconds that the guest has for what was typed just before leaving
_QUIET = 0.5  # seconds without output after which a guest has probably said all


class Relay:
    """Join descriptor ``source`` (input) and ``sink`` (output) to a console that the caller holds."""

    def __init__(self, console: Console, source: int, sink: int) -> None:
        self._console, self._source, self._sink = console, source, sink
        self._rest = b""  # read, not yet being typed
        self._typing: Typing | None = None
        self._eof = False
        self._read = select.poll()
        self._read.register(source, select.POLLIN)

    def talk(self, leave: bytes) -> None:
        """Go on until the input has the byte ``leave`` or ends; `TargetLost` after QEMU's last words."""

        def left(typed: bytes) -> bytes:
            text, found, _ = typed.partition(leave)
            self._eof = self._eof or bool(found)
            return text

        with self._console.follower(self._console.position()) as follower, ExitStack() as closing:
            end = None
            while not self._eof or (self._waits() and time.monotonic() < (end or 0)):
                printed = self._print(follower)
                if not self._type(closing, left) and not printed:
                    self._poll(follower, end)
                if self._eof and end is None:
                    end = time.monotonic() + _LAST

    def feed(self, until: re.Pattern[str] | None, timeout: float) -> None:
        """Type all of the input, each line's end as Enter; print until a line matches ``until``.

        Without it, until nothing is printed for half a second, ``timeout`` seconds at most. Raises
        `TargetTimeout` when it takes no input or prints no such line for so long, `TargetLost` when QEMU
        ends.
        """
        found, line = False, b""
        latest = said = time.monotonic()  # when input was read or taken, when that or output came
        with self._console.follower(self._console.position()) as follower, ExitStack() as closing:
            while True:
                more = self._print(follower)
                if more and until is not None:
                    *complete, line = (line + more).split(b"\n")
                    found = found or any(until.search(one.decode(errors="replace")) for one in complete)
                if self._type(closing, lambda typed: typed.replace(b"\n", b"\r")):
                    latest = said = time.monotonic()
                elif more:
                    said = time.monotonic()
                if not self._waits() and found and (self._eof or not self._read.poll(0)):
                    return
                end = latest + timeout if self._waits() or self._eof else None
                if self._eof and not self._waits() and until is None:
                    end = min(said + _QUIET, latest + timeout)
                if end is None or time.monotonic() < end:
                    if not more:  # else there may be more still
                        self._poll(follower, end)
                elif self._waits():
                    raise self._console.not_taken(timeout)
                elif until is not None:
                    raise self._console.timeout(until.pattern, timeout)
                else:
                    return

    def _waits(self) -> bool:
        return bool(self._rest or self._typing)

    def _poll(self, follower: Follower, end: float | None) -> None:
        """Wait until there is something to do, at most until ``end`` of the clock."""
        poll = select.poll()
        follower.register(poll)
        if not self._eof and len(self._rest) < _CHUNK:
            poll.register(self._source, select.POLLIN)
        if self._typing is not None:
            poll.register(self._typing.fileno(), self._typing.events)
        poll.poll(None if end is None else max(0.0, end - time.monotonic()) * 1000 + 1)

    def _print(self, follower: Follower) -> bytes:
        more = rest = follower.read(_CHUNK)
        while rest:
            rest = rest[os.write(self._sink, rest) :]
        return more

    def _type(self, closing: ExitStack, edit: Callable[[bytes], bytes]) -> bool:
        """Read input, if there is any, and go on typing; tell whether something was read or taken."""
        moved = False
        if not self._eof and len(self._rest) < _CHUNK and self._read.poll(0):
            read = _read(self._source)
            self._eof, moved = not read, True
            self._rest += edit(read)
        if self._typing is None and self._rest:
            self._typing = closing.enter_context(self._console.typing(self._rest, 1.0))
            self._rest = b""
        if self._typing is not None and self._console.step(self._typing):
            closing.close()
            self._typing, moved = None, True
        return moved


def _read(source: int) -> bytes:
    try:
        return os.read(source, _CHUNK)
    except OSError:  # closed, or a terminal that is gone
        return b""
