"""Lock files with a deadline: first come, first served; let go of when their holder dies.

Their contents are the holder's process id, which stays when it did not let go in order.
"""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kgdbpatch.errors import BadInput, Misuse, Refused, TargetBusy, TargetLost

__all__ = ["exclusive", "held", "locked"]

_COMMAND = 200  # characters of a command line that are told
_WIDTH = 10  # characters of a process id, so that each takes the place of the last one


@contextmanager
def exclusive(path: Path, name: str, wait: float, *, settles: bool = False) -> Iterator[bool]:
    """Hold the lock of guest ``name`` at ``path``; as `locked`."""
    create = path.parent.exists()
    try:
        with locked(path, f"guest '{name}' is in use", wait, create=create, settles=settles) as orderly:
            yield orderly
    except FileNotFoundError as error:
        raise TargetLost(f"guest '{name}' is gone: it was shut down") from error


@contextmanager
def locked(
    path: Path, busy: str, wait: float, *, create: bool = True, settles: bool = False
) -> Iterator[bool]:
    """Hold the lock at ``path``; yield whether its last holder let go of it in order.

    If not, that stays known until one does who ``settles`` it. Raises `TargetBusy` after ``wait`` seconds.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if create else 0), 0o600)
    waiting = _Waiting(descriptor)
    try:
        if not waiting.lock(wait):
            holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
            raise TargetBusy(f"{busy} by process {holder}; waited {wait:g} s{_command(holder)}")
        orderly = not os.fstat(descriptor).st_size
        os.pwrite(descriptor, f"{os.getpid():<{_WIDTH}}\n".encode(), 0)  # there is no moment without one
        try:
            yield orderly
        except (Misuse, Refused, BadInput):  # nothing more was left under way
            if orderly or settles:
                os.ftruncate(descriptor, 0)
            raise
        if orderly or settles:
            os.ftruncate(descriptor, 0)
    finally:
        waiting.close()


def _command(process: str) -> str:
    """Return what a process runs, for the end of a sentence, as far as we may see it."""
    try:
        words = Path(f"/proc/{int(process)}/cmdline").read_bytes().replace(b"\0", b" ").split()
    except (OSError, ValueError):
        return ""
    told = os.fsdecode(b" ".join(words))
    return f"; it is '{told[:_COMMAND]}'" if told else ""


def held(path: Path) -> bool:
    """Tell whether somebody holds the lock at ``path``; False where there is no such file."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


class _Waiting:
    """A descriptor to be locked: flock(2) knows no deadline, so a thread waits and can be left behind."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._turn = threading.Lock()
        self._waits = self._closed = False

    def lock(self, wait: float) -> bool:
        """Lock it within ``wait`` seconds; tell whether that was possible."""
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if wait <= 0:
                return False
            done = threading.Event()
            self._waits = True
            threading.Thread(target=self._block, args=[done], daemon=True).start()
            return done.wait(wait)
        return True

    def _block(self, done: threading.Event) -> None:
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        with self._turn:
            self._waits = False
            if self._closed:
                os.close(self._descriptor)
            else:
                done.set()

    def close(self) -> None:
        """Let go; the thread that still waits does so as soon as it can."""
        with self._turn:
            self._closed = True
            if not self._waits:
                os.close(self._descriptor)
