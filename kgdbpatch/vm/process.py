"""A process that may be somebody else's child: identity, liveness, end; all free of pid reuse."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from kgdbpatch.errors import TargetBusy
from kgdbpatch.vm.lock import locked

__all__ = [
    "Process",
    "Unseen",
    "boot_id",
    "exit_words",
    "namespace",
    "processes_with",
    "start_time",
    "watched",
]

_WATCHERS: dict[tuple[int, int], int] = {}  # (pid, start) ─► our child that waits for its end
_ENDS: dict[tuple[int, int], str] = {}  # (pid, start) ─► how it ended, once that is known
_PATIENCE = 2.0  # seconds for that watcher to write down what it saw
_SIGNALLED = 128  # a shell's status of a process that a signal ended: this and the signal's number


def boot_id() -> str:
    """Return the identity of the running host system; start times mean nothing across boots."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def namespace() -> str:
    """Return the identity of our PID namespace; process ids mean nothing in another one."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def _stat(pid: int) -> list[str] | None:
    """Return the fields of a process that exists, from its state on, zombies included (proc(5))."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None


def start_time(pid: int) -> int | None:
    """Return the start time of a running process in clock ticks since the host booted, or None."""
    found = _stat(pid)
    return None if found is None or found[0] in "ZX" else int(found[19])


def processes_with(word: str, without: str = "") -> list[Process]:
    """Return the running processes whose command line has the word ``word``, and not ``without``."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            named = os.fsencode(word) in words and os.fsencode(without or "\n") not in words
            started = start_time(int(entry.name)) if named else None
            if started is not None and int(entry.name) != os.getpid():
                found.append(Process(int(entry.name), started))
    return found


def exit_words(status: int) -> str:
    """Return a shell's exit status in words: ``exit code 1``, ``killed by SIGKILL``."""
    if status <= _SIGNALLED:
        return f"exit code {status}"
    number = status - _SIGNALLED
    try:
        return f"killed by {signal.Signals(number).name}"
    except ValueError:  # the real-time signals have no names, but for the first and the last
        return f"killed by signal {number}"


def watched(process: Process, watcher: int) -> Process:
    """Return ``process``, whose end our child ``watcher`` writes down."""
    _WATCHERS[process.pid, process.started] = watcher
    return process


class Process:
    """A process by ``pid`` and start time; once it has ended, ``fileno()`` is readable.

    Its watcher writes down how it ended in ``directory`` (``exit``) and locks ``alive`` there until then.
    """

    def __init__(self, pid: int, started: int, directory: Path | None = None) -> None:
        self.pid, self.started, self._directory = pid, started, directory
        self._fd = -1
        try:
            self._fd = os.pidfd_open(pid)
        except ProcessLookupError:
            return
        found = _stat(pid)
        if found is None or int(found[19]) != started:
            self.close()

    @classmethod
    def child(cls, pid: int, directory: Path | None = None) -> Process:
        """Return the process of a child just started."""
        found = _stat(pid)
        return cls(pid, int(found[19]) if found is not None else 0, directory)

    def alive(self) -> bool:
        """Tell whether the process still runs."""
        return not self.wait(0)

    def suspended(self) -> bool:
        """Tell whether a signal has stopped the process (SIGSTOP)."""
        found = _stat(self.pid) if self._fd >= 0 else None
        return found is not None and found[0] in "Tt"

    def cpu_seconds(self) -> float:
        """Return the processor time that the process has used, seconds."""
        found = _stat(self.pid) if self._fd >= 0 else None
        return 0.0 if found is None else (int(found[11]) + int(found[12])) / os.sysconf("SC_CLK_TCK")

    def fileno(self) -> int:
        """Return the pidfd, or -1 when the process was gone already."""
        return self._fd

    def wait(self, seconds: float) -> bool:
        """Wait for the process to end; tell whether it did."""
        if self._fd < 0:
            return True
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        return bool(poll.poll(max(0, round(seconds * 1000))))

    def settle(self) -> None:
        """Wait until it is written down how an ended process ended, and take notice of it."""
        if self._directory is not None and (self._directory / "alive").exists():
            try:
                with locked(self._directory / "alive", "", _PATIENCE, create=False):
                    pass
            except (TargetBusy, FileNotFoundError):
                return
            with suppress(OSError, ValueError):
                status = int((self._directory / "exit").read_text())
                _ENDS[self.pid, self.started] = exit_words(status)
        watcher = _WATCHERS.pop((self.pid, self.started), None)
        if watcher is not None:
            with suppress(ChildProcessError):
                os.waitpid(watcher, 0)

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal if the process still runs."""
        if self._fd >= 0:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._fd, number)

    def exit_text(self) -> str:
        """Return how the process ended: ``exit code 1``, ``killed by SIGKILL``."""
        self.settle()
        return _ENDS.get((self.pid, self.started), "exit code unknown: nobody saw it end")

    def close(self) -> None:
        """Let go of the process; it counts as ended then."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __del__(self) -> None:
        self.close()


class Unseen(Process):
    """A process of another user, container or host: only whether its server ``listens`` is known."""

    def __init__(self, listens: Callable[[], bool]) -> None:
        self.pid = self.started = 0
        self._directory, self._listens = None, listens
        self._fd = os.eventfd(0)  # nothing ever comes: nobody tells of its end

    def wait(self, seconds: float) -> bool:
        """Tell whether its server is gone; nothing can be waited for."""
        return not self._listens()

    def suspended(self) -> bool:
        """Return False: it is not known."""
        return False

    def cpu_seconds(self) -> float:
        """Return 0: it is not known."""
        return 0.0

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Do nothing."""

    def exit_text(self) -> str:
        """Return what is known of its end."""
        return "its GDB server is closed"
