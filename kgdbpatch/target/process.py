"""A process that may be somebody else's child: identity, liveness, end; all free of pid reuse."""

from __future__ import annotations

import os
import select
import signal
from pathlib import Path

__all__ = ["Process", "boot_id", "start_time"]

_STATUS: dict[tuple[int, int], str] = {}  # (pid, start) ─► how a child of ours ended


def boot_id() -> str:
    """Return the identity of the running host system; start times mean nothing across boots."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _stat(pid: int) -> tuple[str, int] | None:
    """Return state and start time of a process that exists, zombies included (proc(5))."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return fields[0], int(fields[19])


def start_time(pid: int) -> int | None:
    """Return the start time of a running process in clock ticks since the host booted, or None."""
    found = _stat(pid)
    return None if found is None or found[0] in "ZX" else found[1]


class Process:
    """A process named by ``pid`` and start time; ``fileno()`` is readable once it has ended."""

    def __init__(self, pid: int, started: int) -> None:
        self.pid, self.started = pid, started
        self._fd = -1
        try:
            self._fd = os.pidfd_open(pid)
        except ProcessLookupError:
            return
        found = _stat(pid)
        if found is None or found[1] != started:
            self.close()

    @classmethod
    def child(cls, pid: int) -> Process:
        """Return the process of a child just started."""
        found = _stat(pid)
        assert found is not None, "a child that nobody waited for exists"
        return cls(pid, found[1])

    def _collect(self) -> None:
        """Collect the exit status of an ended process if it is a child of ours."""
        try:
            ended = os.waitid(os.P_PIDFD, self._fd, os.WEXITED | os.WNOHANG)
        except ChildProcessError:
            return
        if ended is not None:
            killed = ended.si_code != os.CLD_EXITED
            how = (
                f"killed by {signal.Signals(ended.si_status).name}"
                if killed
                else f"exit code {ended.si_status}"
            )
            _STATUS[self.pid, self.started] = how

    def alive(self) -> bool:
        """Tell whether the process still runs."""
        return not self.wait(0)

    def fileno(self) -> int:
        """Return the pidfd, or -1 when the process was gone already."""
        return self._fd

    def wait(self, seconds: float) -> bool:
        """Wait for the process to end; tell whether it did."""
        if self._fd < 0:
            return True
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        ended = bool(poll.poll(max(0, round(seconds * 1000))))
        if ended:
            self._collect()
        return ended

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal if the process still runs."""
        if self._fd >= 0:
            try:
                signal.pidfd_send_signal(self._fd, number)
            except ProcessLookupError:
                return

    def exit_text(self) -> str:
        """Return how the process ended: ``exit code 1``, ``killed by SIGKILL``; only its parent knows."""
        return _STATUS.get((self.pid, self.started), "exit code unknown: another process started it")

    def close(self) -> None:
        """Let go of the process; it counts as ended then."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __del__(self) -> None:
        self.close()
