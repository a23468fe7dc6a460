"""A GDB of the user's own at the terminal, attached to a guest that is as before when it ends."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from kgdbpatch.errors import KgdbPatchError
from kgdbpatch.vm.gdb import Debugger
from kgdbpatch.vm.launch import find_tool
from kgdbpatch.vm.mi import quoted
from kgdbpatch.vm.peer import wait_for_turn
from kgdbpatch.vm.session import PATIENCE

if TYPE_CHECKING:
    from kgdbpatch.vm.qemu import Qemu

__all__ = ["debug"]

_SETTINGS = ("set confirm off", "set endian big", "set osabi none", f"set remotetimeout {PATIENCE}")
_PASSED_ON = (signal.SIGTERM, signal.SIGHUP)
# A guest that was paused is left without a word: to detach lets it go on.
_LEAVE = (
    "python gdb.events.gdb_exiting.connect(lambda _: "
    "gdb.selected_inferior().pid and gdb.execute('disconnect', to_string=True))"
)


def debug(qemu: Qemu, symbols: Path | None, more: Path | None, arguments: Sequence[str], wait: float) -> int:
    """Run GDB on a guest till it ends; return its exit code, of a signal the number and 128.

    ``symbols`` is the kernel's file, ``more`` another one with symbols. The guest is held meanwhile: other
    clients are told. When GDB ends, the guest goes on, or is paused as before. Raises `TargetBusy`.
    """
    with qemu.exclusive(wait, settles=True):
        wait_for_turn(qemu.gdb_socket, f"guest '{qemu.name}' is held by another debugger", wait)
        with qemu.debugged() as paused:
            orders = [*_SETTINGS[:1], f"set architecture {qemu.architecture}", *_SETTINGS[1:]]
            orders += [f"symbol-file {quoted(str(symbols))}"] if symbols else []
            orders += [f"add-symbol-file {quoted(str(more))}"] if more else []
            orders += [_LEAVE] if paused else []
            orders.append(f"target remote {qemu.gdb_socket}")
            words = [word for order in orders for word in ("-ex", order)]
            code = _at_terminal([find_tool("gdb-multiarch", "gdb-multiarch"), "-q", *words, *arguments])
            if qemu.alive():
                _put_back(qemu, wait, paused=paused)
    return code


def _put_back(qemu: Qemu, wait: float, *, paused: bool) -> None:
    """Drop what breakpoints are left, and have the guest go on or stand still as before."""
    with Debugger(qemu, wait) as debugger, debugger.stopped() as session:
        session.stays_stopped = paused


def _at_terminal(command: Sequence[str]) -> int:
    environment = {**os.environ, "DEBUGINFOD_URLS": ""}
    with subprocess.Popen(command, env=environment) as process, _signals_for(process):
        code = process.wait()
    return 128 - code if code < 0 else code


@contextmanager
def _signals_for(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Leave Ctrl-C to GDB, which stops the guest by it; what ends us ends GDB first."""

    def pass_on(number: int, _: FrameType | None) -> None:
        with suppress(KgdbPatchError, OSError):
            process.send_signal(number)

    before = {number: signal.signal(number, pass_on) for number in _PASSED_ON}
    before[signal.SIGINT] = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
