"""A dialogue with the guest's console, as pexpect leads it: expect a text, send a line."""

from __future__ import annotations

import codecs
import io
import re
import time
from contextlib import ExitStack
from typing import NamedTuple

from pexpect.exceptions import TIMEOUT
from pexpect.spawnbase import SpawnBase

from kgdbpatch.errors import Misuse
from kgdbpatch.vm.console import Console
from kgdbpatch.vm.follow import Follower

__all__ = ["Dialogue", "Exchange"]

_ENTER = "\r"  # what the key sends; a tty makes a newline of it, firmware knows nothing else
_CHUNK = 1 << 16  # bytes


class Exchange(NamedTuple):
    """What was sent, and what the guest printed from then until the next thing was sent."""

    sent: str
    printed: str


class Dialogue:
    """Talk with the guest: its console's text from the last unfinished line on, a prompt perhaps.

    Line ends are ``\\n`` in all that is returned. Output is read from the console's log, so that nobody takes
    it away from another; as a context manager it types alone: others get `TargetBusy`.

    >>> kernel.console.sendline("read /proc/version")
    >>> kernel.console.expect(r"read: (Linux version \\S+)", timeout=10)[1]
    'Linux version 6.1.170'
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._holding = ExitStack()
        self.begin()

    def begin(self) -> None:
        """Begin anew: what was printed before, but for an unfinished line, is no part of the dialogue."""
        start = self._console.position()
        self._spawn = _Spawn(self._console, start)
        self._sent = [("", start)]

    def expect(self, pattern: str | re.Pattern[str], timeout: float = 10.0) -> re.Match[str]:
        """Return the first match of a regex in what was printed since the last match.

        ``^`` and ``$`` match at lines' ends; let ``\\n`` close a pattern that is to see a line whole. Raises
        `TargetTimeout` with the console's last lines after ``timeout`` seconds, `TargetLost`, `Misuse` for no
        regex.
        """
        try:
            wanted = re.compile(pattern, re.MULTILINE) if isinstance(pattern, str) else pattern
        except re.error as error:
            raise Misuse(f"pattern '{pattern}': {error}") from error
        try:
            self._spawn.look_for(wanted, timeout)
        except TIMEOUT:
            raise self._console.timeout(wanted.pattern, timeout) from None
        found: re.Match[str] = self._spawn.match
        return found

    @property
    def before(self) -> str:
        """What was printed between the last two matches."""
        return str(self._spawn.before or "")

    def send(self, text: str, timeout: float = 10.0) -> None:
        """Type ``text``; errors as for `Kernel.send`."""
        at = self._console.size()
        self._console.send(text, timeout)
        self._sent.append((text, at))

    def sendline(self, text: str = "", timeout: float = 10.0) -> None:
        """Type a line and Enter; errors as for `Kernel.send`."""
        self.send(text + _ENTER, timeout)

    @property
    def transcript(self) -> list[Exchange]:
        """All sent and printed since the dialogue began; what came before the first send first."""
        start = self._sent[0][1]
        printed = self._console.read(start)
        ends = [at - start for _, at in self._sent[1:]] + [len(printed)]
        return [
            Exchange(sent, _decoder().decode(printed[at - start : end], final=True))
            for (sent, at), end in zip(self._sent, ends, strict=True)
        ]

    def __repr__(self) -> str:
        return f"Dialogue({self._console.guest!r}, {len(self._sent) - 1} sent)"

    def __enter__(self) -> Dialogue:
        self._holding.enter_context(self._console.held())
        return self

    def __exit__(self, *_: object) -> None:
        self._holding.close()


def _decoder() -> io.IncrementalNewlineDecoder:
    return io.IncrementalNewlineDecoder(codecs.getincrementaldecoder("utf-8")("replace"), translate=True)


class _Spawn(SpawnBase):  # type: ignore[misc]  # pexpect ships no types
    """Where pexpect gets its text from: the console's log, followed only while something is expected."""

    def __init__(self, console: Console, start: int) -> None:
        super().__init__(maxread=_CHUNK, encoding="utf-8")
        self.delayafterread = None
        self._console, self._at, self._newlines = console, start, _decoder()
        self._follower: Follower | None = None

    def look_for(self, pattern: re.Pattern[str], timeout: float) -> None:
        """Have pexpect look for a pattern; raises its ``TIMEOUT``, or `TargetLost`."""
        with self._console.follower(self._at) as self._follower:
            try:
                self.expect_list([pattern], timeout)
            finally:
                self._at = self._follower.position

    def read_nonblocking(self, size: int = 1, timeout: float | None = -1) -> str:
        """Return the text printed next; raise ``TIMEOUT`` when none is within ``timeout`` seconds."""
        assert self._follower is not None
        end = None if timeout is None else time.monotonic() + timeout
        while not (more := self._follower.read(size)):
            if not self._follower.wait(end):
                raise TIMEOUT("nothing was printed")
        return str(self._newlines.decode(more))
