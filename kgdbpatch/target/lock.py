"""A lock file with a deadline: first come, first served; let go of when its holder dies."""

from __future__ import annotations

import fcntl
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kgdbpatch.errors import TargetBusy, TargetLost

__all__ = ["exclusive"]


@contextmanager
def exclusive(path: Path, name: str, wait: float) -> Iterator[None]:
    """Hold the lock at ``path``; raise `TargetBusy` naming its holder after ``wait`` seconds."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except FileNotFoundError as error:
        raise TargetLost(f"guest '{name}' is gone: it was shut down") from error
    try:
        if not _lock(descriptor, wait):
            holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
            raise TargetBusy(f"guest '{name}' is in use by process {holder}; waited {wait:g} s")
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, wait: float) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        if wait <= 0:
            return False
        # The system call has no deadline; flock(1) has, and locks the open file it shares with us.
        command = ["flock", "--exclusive", "--timeout", f"{wait:f}", str(descriptor)]
        return subprocess.run(command, pass_fds=[descriptor], check=False).returncode == 0
    return True
