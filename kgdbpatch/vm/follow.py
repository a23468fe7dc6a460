"""A file that another process writes, read as it grows; any number may do so, none is in another's way."""

from __future__ import annotations

import select
import time
from pathlib import Path
from typing import Protocol

from inotify_simple import INotify, flags

from kgdbpatch.errors import TargetLost
from kgdbpatch.vm.process import Process

__all__ = ["Follower", "Owner"]


class Owner(Protocol):
    """Who writes a file, or is debugged: something that can end, and says how it did."""

    @property
    def process(self) -> Process:
        """The process at the other end."""

    def lost(self) -> TargetLost:
        """Return the error that says how it ended."""


class Follower:
    """Read the file at ``path`` from byte ``since`` on; a context manager; `TargetLost` without a file."""

    def __init__(self, path: Path, owner: Owner, since: int) -> None:
        self._owner = owner
        try:
            self._log = path.open("rb", buffering=0)
        except FileNotFoundError:
            raise owner.lost() from None
        self._log.seek(since)
        self._changes = INotify()
        self._changes.add_watch(path, flags.MODIFY)
        self._poll = select.poll()
        self.register(self._poll)

    def register(self, poll: select.poll) -> None:
        """Have ``poll`` return when there may be more to read, or the writer has ended."""
        poll.register(self._changes.fileno(), select.POLLIN)
        if self._owner.process.fileno() >= 0:
            poll.register(self._owner.process.fileno(), select.POLLIN)

    @property
    def position(self) -> int:
        """The place in the file behind what was read."""
        return self._log.tell()

    def read(self, most: int = 1 << 20) -> bytes:
        """Return up to ``most`` bytes more; raise `TargetLost` once all is read and the writer has ended."""
        ended = self._owner.process.wait(0)  # asked before reading: what it wrote last is read then
        self._changes.read(timeout=0)
        more = self._log.read(most)
        if ended and not more:
            raise self._owner.lost()
        return more

    def wait(self, end: float | None) -> bool:
        """Wait for more, or the writer's end; tell whether ``end`` (of `time.monotonic`) is yet to come."""
        left = None if end is None else end - time.monotonic()
        if left is not None and left <= 0:
            return False
        self._poll.poll(None if left is None else left * 1000 + 1)
        return True

    def __enter__(self) -> Follower:
        return self

    def __exit__(self, *_: object) -> None:
        self._changes.close()
        self._log.close()
