"""The debugger: stop the guest, look, change, let it go; every stop is one connection."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from kgdbpatch.errors import CommandFailed, TargetLost
from kgdbpatch.vm.gdb_process import Gdb
from kgdbpatch.vm.peer import wait_for_turn
from kgdbpatch.vm.qemu import Qemu
from kgdbpatch.vm.registers import GRegisters, Layout
from kgdbpatch.vm.session import DEADLINE, PATIENCE, Session

__all__ = ["Debugger", "GRegisters", "Session"]


class Debugger:
    """GDB for one guest, started at once and kept; connected only while the guest is stopped.

    >>> with Debugger(qemu) as debugger, debugger.stopped() as session:
    ...     hex(session.registers()["pc"])
    """

    def __init__(self, qemu: Qemu, wait: float = 10.0) -> None:
        """``wait``: how long (seconds) another debugger that is connected may take to let go."""
        self._qemu, self._wait = qemu, wait
        self._share = os.memfd_create("kgdbpatch-transfer", os.MFD_CLOEXEC)
        self._gdb = self._new_gdb()
        self._layout: Layout | None = None
        self.pause = 0.0  # seconds of the last stop, from before connecting until resumed

    def _new_gdb(self, *more: str) -> Gdb:
        settings = [f"architecture {self._qemu.architecture}", f"remotetimeout {PATIENCE}", *more]
        return Gdb(self._qemu, settings, self._share, self._qemu.directory)

    @contextmanager
    def stopped(self) -> Iterator[Session]:
        """Stop the guest, yield a session, resume the guest, also on errors.

        One that was paused is so afterwards; one that a killed debugger left stopped goes on, less its
        breakpoints. Raises `TargetLost` quoting QEMU or GDB, `TargetBusy` naming another debugger.
        """
        if not self._qemu.alive():
            raise self._qemu.lost()
        if not self._gdb.alive():
            self._gdb.close()
            self._gdb = self._new_gdb()
        self._gdb.start(DEADLINE)
        wait_for_turn(
            self._qemu.gdb_socket, f"guest '{self._qemu.name}' is held by another debugger", self._wait
        )
        started = time.perf_counter()
        try:
            with (
                self._qemu.debugged() as paused,
                self._connected(paused) as session,
                self._qemu.at_hand(session),
            ):
                yield session
        finally:
            self.pause = time.perf_counter() - started

    @contextmanager
    def _connected(self, paused: bool) -> Iterator[Session]:
        session = Session(self._qemu, self._gdb, self._share)
        session.stays_stopped = paused
        try:
            session.connect()
            session.layout = self._layout = self._layout or self._learn(session)
            yield session
        except BaseException:
            # The first error is the one to report; an unanswering GDB must not keep the guest.
            try:
                session.leave(paused=session.stays_stopped)
            except (TargetLost, CommandFailed):
                self._gdb.close()
            raise
        session.leave(paused=session.stays_stopped)

    def _learn(self, session: Session) -> Layout:
        """Return the layout of the registers; QEMU's description is read once a guest."""
        layout = Layout.load(self._qemu.directory)
        if layout is None:
            layout = Layout.read(session.packet)
            layout.save(self._qemu.directory)
        layout.check()
        return layout

    @contextmanager
    def logged(self, path: Path) -> Iterator[None]:
        """Have GDB log the packets of the connections made meanwhile (``bench.packets.packets_sent``)."""
        self._gdb.ask(f":set remotelogfile {path}", deadline=DEADLINE)
        try:
            yield
        finally:
            self._gdb.close()  # it would go on formatting them, which takes longer than sending them

    @property
    def gdb_pid(self) -> int:
        """GDB's process id."""
        return self._gdb.pid

    def close(self) -> None:
        """End GDB; the guest goes on."""
        self._gdb.close()
        if self._share >= 0:
            os.close(self._share)
            self._share = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
