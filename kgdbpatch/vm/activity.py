"""Whether a QEMU without a monitor lets its guest run: by the processor time of its virtual CPUs' threads.

A GDB server stops the guest before it answers anything, and says the same of one that was paused before.
But a guest that runs has a clock that ticks, so that its virtual CPUs wake up and use some time again and
again, if little; a paused one's use none once they have come to rest. (QEMU's other threads have timers of
their own.)
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

__all__ = ["busy_threads"]

_PIECE = 0.005  # seconds between two looks: nobody tells when a thread runs
_ENOUGH = 3  # times that a thread is seen to have run; the last bit of one that is being paused is one


def busy_threads(pid: int, longest: float, threads: Collection[int] = ()) -> set[int]:
    """Return which threads of a process use the processor again and again within ``longest`` seconds.

    With ``threads``, only those are looked at, and not for longer than until one of them does.
    """
    end = time.monotonic() + longest
    before, times = _used(pid, threads), Counter[int]()
    while True:
        busy = {thread for thread, count in times.items() if count >= _ENOUGH}
        if time.monotonic() >= end or (threads and busy):
            return busy
        time.sleep(_PIECE)
        now = _used(pid, threads)
        times.update(thread for thread, used in now.items() if before.get(thread) != used)
        before = now


def _used(pid: int, threads: Collection[int]) -> dict[int, str]:
    """Return what threads have used (ns) and how often they were put on a CPU (schedstat of proc(5))."""
    found: dict[int, str] = {}
    for task in Path(f"/proc/{pid}/task").glob("[0-9]*"):
        if not threads or int(task.name) in threads:
            with suppress(OSError):
                found[int(task.name)] = (task / "schedstat").read_text()
    return found
