"""The guest's syslog, read from its console: parsed lines, waiting with a deadline, following."""

from __future__ import annotations

import re
from collections.abc import Iterator

from kgdbpatch.guests.profile import LogLine, Profile
from kgdbpatch.target.console import Console

__all__ = ["Log"]


class Log:
    """Read one guest's syslog.

    >>> mark = kernel.log.position()
    >>> kernel.log.wait("packet_counter", deadline=5, since=mark).message
    'KernMonitor/packet_counter: netisr value: 0x00000004 | 1'
    """

    def __init__(self, console: Console, profile: Profile) -> None:
        self._console, self._profile = console, profile

    def position(self) -> int:
        """Return the place behind the last line printed so far, for ``since``."""
        return self._console.position()

    def lines(self, since: int = 0) -> list[LogLine]:
        """Return all syslog lines printed since ``since``."""
        parsed = (self._profile.parse_log(line) for line in self._console.lines(since))
        return [line for line in parsed if line is not None]

    def follow(self, since: int = 0, deadline: float | None = None) -> Iterator[LogLine]:
        """Yield syslog lines as they come; end ``deadline`` seconds from now, or never."""
        for line in self._console.follow(since, deadline):
            parsed = self._profile.parse_log(line)
            if parsed is not None:
                yield parsed

    def wait(self, pattern: str, *, deadline: float = 10.0, since: int = 0) -> LogLine:
        """Return the first syslog line whose message matches the regex ``pattern``.

        Raises `TargetTimeout` with the console's last lines after ``deadline`` seconds.
        """
        wanted = re.compile(pattern)
        for line in self.follow(since, deadline):
            if wanted.search(line.message):
                return line
        raise self._console.timeout(pattern, deadline)
