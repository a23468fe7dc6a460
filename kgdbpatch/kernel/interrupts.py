"""Have Ctrl-C and signals that end a command wait until what is under way is noted, and can be undone."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["late_interrupts"]

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def late_interrupts() -> Iterator[Callable[[], None]]:
    """Raise `KeyboardInterrupt` for signals that came meanwhile, at the end or when what it yields is called.

    Signals that do not do so anyway, and those of other threads than the main one, are left alone.
    """
    came: list[int] = []

    def check() -> None:
        if came:
            came.clear()
            raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield check
        return
    numbers = [one for one in _ENDING if signal.getsignal(one) is signal.default_int_handler]
    for number in numbers:
        signal.signal(number, lambda received, _: came.append(received))
    try:
        yield check
    finally:
        for number in numbers:
            signal.signal(number, signal.default_int_handler)
    check()
