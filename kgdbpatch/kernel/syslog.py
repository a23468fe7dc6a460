"""The guest's syslog, read from its console: parsed lines, waiting with a deadline, following."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from kgdbpatch.errors import Misuse
from kgdbpatch.personality.base import LogLine, Personality
from kgdbpatch.vm.console import Console

__all__ = ["Log"]


class Log:
    """Read one guest's syslog.

    >>> mark = kernel.log.position()
    >>> kernel.log.wait("packet_counter", deadline=5, since=mark).message
    'KernMonitor/packet_counter: netisr value: 0x00000004 | 1'
    """

    def __init__(self, console: Console, personality: Personality) -> None:
        self._console, self._personality = console, personality
        self._begin = self._looked = 0
        self._usual = False  # some line so far

    def __repr__(self) -> str:
        return f"Log({self._personality.name}, from byte {self._begin})"

    def begin(self, position: int) -> None:
        """Leave out what was printed before ``position``, as if the log began there."""
        self._begin = position

    def position(self) -> int:
        """Return the place behind the last line printed so far, for ``since``."""
        return self._console.position()

    @property
    def _timed(self) -> bool:
        """Whether the guest prints lines as kernels of its kind usually do: others are not its log's then.

        It is looked for where it has said something since the last time, and until it is found.
        """
        end = self._console.position()
        if not self._usual and end > self._looked:
            lines = self._console.lines(self._looked)
            self._usual = any(self._personality.parse_log(line) is not None for line in lines)
            self._looked = end
        return self._usual

    def _parser(self, everything: bool) -> Callable[[str], LogLine | None]:
        """Return what makes log lines of the console's, one after the other.

        Others than the syslog's have no time, and the source ``panic`` from one on, else ``console``.
        """
        dead = False

        def parse(line: str) -> LogLine | None:
            nonlocal dead
            dead = dead or re.search(self._personality.panic, line) is not None
            parsed = self._personality.parse_log(line)
            if parsed is None and not dead and not self._timed:
                parsed = self._personality.parse_untimed(line)
            if parsed is None and (dead or everything) and line:
                return LogLine("", "panic" if dead else "console", line)
            return parsed

        return parse

    def lines(self, since: int = 0, *, everything: bool = False) -> list[LogLine]:
        """Return all syslog lines printed since ``since``, and a panic's; with ``everything`` all lines."""
        parse = self._parser(everything)
        parsed = (parse(line) for line in self._console.lines(max(since, self._begin)))
        return [line for line in parsed if line is not None]

    def late(self, time: str) -> Callable[[LogLine], bool]:
        """Return what tells, line after line, whether it is of ``time`` or later; `Misuse` for no time."""
        start = self._personality.log_seconds(time)
        if start is None:
            raise Misuse(f"'{time}' is no time as this guest prints it")
        of_day = re.fullmatch(self._personality.time_of_day, time) is not None
        latest = -1.0

        def is_late(line: LogLine) -> bool:
            nonlocal latest
            at = self._personality.log_seconds(line.time) if line.time else None
            if at is not None:
                latest = at % 86400 if of_day else at
            return latest >= start

        return is_late

    def unread(self, since: int = 0) -> Callable[[], list[LogLine]]:
        """Return what returns, each time, the lines as of `lines` that are new; it waits for none."""
        parse, mark = self._parser(everything=False), max(since, self._begin)

        def read() -> list[LogLine]:
            nonlocal mark
            lines, mark = self._console.more(mark)
            return [line for line in map(parse, lines) if line is not None]

        return read

    def follow(
        self, since: int = 0, deadline: float | None = None, *, everything: bool = False
    ) -> Iterator[LogLine]:
        """Yield lines, as `lines` does, as they come; end ``deadline`` seconds from now, or never."""
        parse = self._parser(everything)
        for line in self._console.follow(max(since, self._begin), deadline):
            parsed = parse(line)
            if parsed is not None:
                yield parsed

    def wait(self, pattern: str, *, deadline: float = 10.0, since: int = 0) -> LogLine:
        """Return the first of `lines` that matches; `TargetTimeout` with the console's last lines."""
        wanted = re.compile(pattern)
        for line in self.follow(since, deadline):
            if wanted.search(line.message):
                return line
        raise self._console.timeout(pattern, deadline)
