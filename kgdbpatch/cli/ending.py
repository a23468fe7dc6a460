"""How a command that measures ends: by time, by Ctrl-C, or by a signal, with what it has found so far."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["ended_kindly"]


@contextmanager
def ended_kindly() -> Iterator[None]:
    """Have SIGTERM and SIGHUP end this as Ctrl-C does: what was put in is taken out; `nohup` is heeded."""
    ended = (signal.SIGTERM, signal.SIGHUP)
    numbers = [number for number in ended if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, signal.default_int_handler) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
