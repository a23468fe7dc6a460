"""The guest's console: everything it printed since power-on, for any number of readers; one may type."""

from __future__ import annotations

import os
import re
import select
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kgdbpatch.errors import TargetBusy, TargetLost, TargetTimeout
from kgdbpatch.vm.follow import Follower, Owner
from kgdbpatch.vm.lock import locked
from kgdbpatch.vm.peer import peer_of, wait_for_turn

__all__ = ["Console", "Owner", "Typing"]

_TAIL = 10  # lines that an error quotes
_LONGEST_LINE = 1 << 16  # bytes
_LEAST = 0.001  # seconds: 0 would mean not to wait at all


class Console:
    """Read the log file that QEMU keeps of the console; positions are byte offsets in it."""

    def __init__(self, path: Path, socket_path: Path, owner: Owner) -> None:
        self._path, self._socket, self._owner = path, socket_path, owner
        self.guest = path.parent.name
        self._held = False

    def position(self) -> int:
        """Return the place behind the last line printed so far; an unfinished line lies after it."""
        start = max(0, self.size() - _LONGEST_LINE)
        return start + self.read(start).rfind(b"\n") + 1

    def lines(self, since: int = 0) -> list[str]:
        """Return the complete lines printed since ``since``, without their ends."""
        return self.more(since)[0]

    def more(self, since: int) -> tuple[list[str], int]:
        """Return what `lines` does, and the place behind them."""
        *complete, rest = (printed := self.read(since)).split(b"\n")
        return [_text(line) for line in complete], since + len(printed) - len(rest)

    def size(self) -> int:
        """Return how many bytes were printed so far."""
        return self._status().st_size

    def silent(self) -> float:
        """Return for how many seconds (of the host's) nothing has been printed."""
        return max(0.0, time.time() - self._status().st_mtime)

    def _status(self) -> os.stat_result:
        try:
            return self._path.stat()
        except FileNotFoundError:
            raise self._owner.lost() from None

    def read(self, since: int) -> bytes:
        """Return what was printed since ``since``."""
        try:
            with self._path.open("rb") as log:
                log.seek(since)
                return log.read()
        except FileNotFoundError:
            raise self._owner.lost() from None

    def follower(self, since: int) -> Follower:
        """Return what reads the console's bytes from ``since`` on, as they come."""
        return Follower(self._path, self._owner, since)

    def follow(self, since: int = 0, deadline: float | None = None) -> Iterator[str]:
        """Yield complete lines as they come, for ``deadline`` seconds or for ever; or raise `TargetLost`."""
        return (line for line, complete in self.growing(since, deadline) if complete)

    def growing(self, since: int = 0, deadline: float | None = None) -> Iterator[tuple[str, bool]]:
        """Yield (line, whether it is complete), as `follow`; an unfinished one again as it grows."""
        end = None if deadline is None else time.monotonic() + deadline
        with self.follower(since) as follower:
            rest = b""
            while True:
                more = follower.read()
                if more:
                    *complete, rest = (rest + more).split(b"\n")
                    yield from ((_text(line), True) for line in complete)
                    if rest:
                        yield _text(rest), False
                elif not follower.wait(end):
                    return

    def wait(
        self, pattern: str, deadline: float = 10.0, since: int = 0, *, partial: bool = False
    ) -> re.Match[str]:
        """Return the match of regex ``pattern`` in the first line since ``since`` that has one.

        With ``partial`` a line not yet ended, such as a prompt, may match. Raises `TargetTimeout` with the
        last lines after ``deadline`` seconds, `TargetLost` when QEMU ends.
        """
        wanted = re.compile(pattern)
        for line, complete in self.growing(since, deadline):
            found = wanted.search(line) if complete or partial else None
            if found:
                return found
        raise self.timeout(pattern, deadline)

    def timeout(self, pattern: str, deadline: float) -> TargetTimeout:
        """Return the error that says what did not come and what came last."""
        printed = self.read(0).rstrip(b"\n").split(b"\n")[-_TAIL:] if self.size() else []
        last = "".join(f"\n  {_text(line)}" for line in printed) or " nothing"
        return TargetTimeout(
            f"no line like /{pattern}/ on the console within {deadline:g} s; its last lines:{last}"
        )

    # ---- typing ----------------------------------------------------------------------------

    @contextmanager
    def held(self, wait: float = 10.0) -> Iterator[None]:
        """Be the only one who types meanwhile, by `send`; raise `TargetBusy` after ``wait`` seconds."""
        if self._held:
            yield
            return
        busy = f"the console of guest '{self.guest}' is in use"
        path = self._path.with_name("console.lock")
        try:
            with locked(path, busy, wait, settles=True):
                wait_for_turn(self._socket, f"{busy} by another program", wait)
                self._held = True
                try:
                    yield
                finally:
                    self._held = False
        except FileNotFoundError as error:
            raise self._owner.lost() from error

    def send(self, text: str, deadline: float = 10.0) -> None:
        """Type ``text``; return when the guest has taken it.

        Raises `TargetTimeout` when it does not, or not all, within ``deadline`` seconds; `TargetBusy`.
        """
        end = time.monotonic() + deadline
        poll = select.poll()
        with self.held(deadline), self.typing(text.encode(), end - time.monotonic()) as typing:
            while not self.step(typing):
                left = end - time.monotonic()
                if left <= 0:
                    raise self.not_taken(deadline)
                poll.register(typing.fileno(), typing.events)
                poll.poll(left * 1000 + 1)

    def typing(self, text: bytes, deadline: float) -> Typing:
        """Begin to type ``text`` (the caller holds the console); errors as for `send`."""
        try:
            return Typing(self._socket, text, max(deadline, _LEAST))
        except TimeoutError as error:
            raise self.not_taken(deadline) from error
        except OSError as error:
            raise self._unwritable(error) from error

    def step(self, typing: Typing) -> bool:
        """Go on typing, without waiting; tell whether the guest has taken all; errors as for `send`."""
        try:
            return typing.step()
        except OSError as error:
            raise self._unwritable(error) from error

    def not_taken(self, deadline: float) -> TargetTimeout:
        """Return the error that says that the guest did not take its input, or who is in the way."""
        other = peer_of(self._socket, but=os.getpid())
        if other is not None:
            pid, command = other
            by = f"another program, process {pid} ({command[:100]})"
            return TargetBusy(f"the console of guest '{self.guest}' is in use by {by}; waited {deadline:g} s")
        return TargetTimeout(f"the guest did not take its console input within {deadline:g} s")

    def _unwritable(self, error: OSError) -> TargetLost:
        if self._owner.process.wait(0.2):
            return self._owner.lost()
        return TargetLost(f"the console cannot be written: {error.strerror}")


class Typing:
    """A text on its way to the guest's console, through QEMU's socket; a context manager.

    It is connected only for as long as the guest takes it. QEMU (7.2, 10.0) writes the guest's output to
    whoever is connected and waits when it is not read: 278 bytes later the guest stands still, and QEMU's
    monitor with it; so `Follower` reads the log. Errors are `OSError`; connecting takes ``deadline`` seconds
    at most.
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


def _text(line: bytes) -> str:
    return line.decode(errors="replace").strip("\r")  # early consoles send it behind the newline
