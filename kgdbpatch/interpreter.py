"""What Python's garbage collector, threads and teardown would cost a command, and how to do without."""

from __future__ import annotations

import atexit
import contextlib
import gc
import os
import sys
import threading
from collections.abc import Iterator
from typing import NoReturn

__all__ = ["leave", "set_up", "uncollected"]


def set_up() -> None:
    """Set up a process that lives for one command: look for garbage seldom, start no threads for BLAS."""
    gc.set_threshold(100_000, 20, 20)
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def leave(code: int) -> NoReturn:
    """End the process; its objects are not taken down one by one where no other thread is at work."""
    if threading.active_count() == 1:
        atexit._run_exitfuncs()
        with contextlib.suppress(OSError):  # the usual way tells of it
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    sys.exit(code)


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Collect no garbage meanwhile; what was made counts as old, so later collections seldom look at it."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.unfreeze()  # which makes all objects old ones
        if collecting:
            gc.enable()
