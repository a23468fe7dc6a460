"""A client that is killed for good at one of its rows of orders to GDB: nothing of it runs on."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

from kgdbpatch.vm.gdb_process import Gdb

from .cut import Orders

__all__ = ["dies"]


def dies(
    work: Callable[[], object],
    rows: int,
    *,
    since: Callable[[], bool] = lambda: True,
    debugger_too: bool = False,
) -> bool:
    """Do ``work`` in a process that is killed behind so many rows; return whether it was, before its end.

    They are counted from when ``since`` is true. Of the next row, its GDB gets half where the number is odd.
    ``debugger_too`` kills GDB at that moment.
    """
    child = os.fork()
    if not child:
        status = 1
        try:
            with Orders.heard() as orders:
                orders.arm(rows, half=bool(rows % 2), since=since)
                ended = Gdb.close

                def close(gdb: Gdb) -> None:
                    if orders.killed:
                        if debugger_too:
                            os.kill(gdb.pid, signal.SIGKILL)
                        os.kill(os.getpid(), signal.SIGKILL)
                    ended(gdb)

                Gdb.close = close  # type: ignore[method-assign,assignment]
                work()
                status = 0
        finally:
            os._exit(status)
    _, how = os.waitpid(child, 0)
    assert os.WIFSIGNALED(how) or os.WEXITSTATUS(how) == 0
    return os.WIFSIGNALED(how)
