"""A QEMU that somebody else started: reached by its GDB server, and by its monitor where that is given."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kgdbpatch.errors import CommandFailed, Misuse
from kgdbpatch.vm.foreign_console import is_stream, kept, record
from kgdbpatch.vm.foreign_ram import MonitorRam, ProcessRam, StoppedRam
from kgdbpatch.vm.process import Process
from kgdbpatch.vm.qemu import Qemu
from kgdbpatch.vm.runtime import GuestRecord

if TYPE_CHECKING:
    from kgdbpatch.vm.console import Console
    from kgdbpatch.vm.gdb import Debugger, Session

__all__ = ["AttachedQemu", "busy_threads"]

_LONGEST_NAP = 2.0  # seconds for which a CPU of a guest that runs may have nothing to do
_FRESH = 1.0  # seconds for which it counts that it was seen to be paused
_PIECE = 0.005  # seconds between two looks: nobody tells when a thread runs
_LOOKS = 40  # at least: who seldom gets a processor himself sees little of what others do
_ENOUGH = 3  # times that a thread is seen to have run; the last bit of one that is being paused is one
_RUNNABLE = "R"  # a thread's state
_READER_WAITS = 10.0  # seconds for another debugger to let go


class AttachedQemu(Qemu):
    """A guest machine of somebody else's; nothing here ends it, and snapshots are not ours to make.

    ``attachment`` is how it is reached.
    """

    foreign = True

    def __init__(self, record: GuestRecord, process: Process) -> None:
        super().__init__(record, process)
        assert record.attached is not None
        self.attachment = record.attached
        self.observable = bool(self.attachment.qmp)
        self._session: Session | None = None
        self._reader: Debugger | None = None
        self._seen_paused = -math.inf

    @property
    def gdb_socket(self) -> Path:
        """The socket of QEMU's GDB server: a link to it in the guest's directory, or ``HOST:PORT``."""
        address = self.attachment.address
        return self.directory / "gdb.sock" if address.is_absolute() else address

    # ---- the monitor ----------------------------------------------------------------------

    def qmp(self, command: str, *, deadline: float = 30.0, **arguments: object) -> object:
        """As `Qemu.qmp`; raise `Misuse` where no monitor of it is known."""
        if not self.attachment.qmp:
            raise Misuse(f"guest '{self.name}' was attached to without --qmp, which '{command}' needs")
        return super().qmp(command, deadline=deadline, **arguments)

    @contextmanager
    def at_hand(self, session: Session) -> Iterator[None]:
        """Note that a debugger has stopped the guest: memory is read through it meanwhile."""
        before, self._session = self._session, session
        try:
            yield
        finally:
            self._session = before
            if not session.stays_stopped:
                self._seen_paused = -math.inf
            if "ram" in self.__dict__:
                self.ram.forget()

    @property
    def stopped_now(self) -> bool:
        """Whether a debugger of this process has the guest stopped."""
        return self._session is not None

    @contextmanager
    def looking(self) -> Iterator[Session]:
        """Yield a debugger's session: the one at hand, else one of a stop for this purpose."""
        if self._session is not None:
            if not self._session.running:
                yield self._session
                return
            self._session.interrupt()
            try:
                yield self._session
            finally:
                self._session.resume()
            return
        if self._reader is None:
            from kgdbpatch.vm.gdb import Debugger

            self._reader = Debugger(self, _READER_WAITS)
        with self._reader.stopped() as session:
            yield session

    def close(self) -> None:
        """As `Qemu.close`; end the debugger that memory was read with, if there was one."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None
        if "ram" in self.__dict__:
            self.ram.close()
        super().close()

    # ---- its life ----------------------------------------------------------------------------

    def runs(self) -> bool:
        """Tell whether the guest runs: by QEMU's word, by what its virtual CPUs use, or as the user said."""
        known = self.attachment
        if known.qmp:
            answer = self.qmp("query-status")
            return bool(answer.get("running")) if isinstance(answer, dict) else True
        if self.pid and known.threads:
            if time.monotonic() - self._seen_paused > _FRESH:
                if busy_threads(self.pid, _LONGEST_NAP, known.threads):
                    return True
                self._seen_paused = time.monotonic()
            return False
        return not known.paused

    def cpus(self) -> int:
        """Return how many CPUs the guest has."""
        return self.attachment.cpus

    def savevm(self, tag: str, *, deadline: float | None = None) -> None:
        """Refuse: raise `Misuse`."""
        raise self.no_snapshots()

    def loadvm(self, tag: str, *, deadline: float | None = None) -> None:
        """Refuse: raise `Misuse`."""
        raise self.no_snapshots()

    def delvm(self, tag: str, *, deadline: float | None = None) -> None:
        """Refuse: raise `Misuse`."""
        raise self.no_snapshots()

    def snapshots(self) -> list[Mapping[str, Any]]:
        """Refuse: raise `Misuse`."""
        raise self.no_snapshots()

    def note_paused(self, paused: bool) -> None:
        """Note it, for where it cannot be seen."""
        self.attachment = replace(self.attachment, paused=paused)
        self.record = replace(self.record, attached=self.attachment)
        self.record.save()
        self._seen_paused = -math.inf

    def no_snapshots(self) -> Misuse:
        """Return the error that says why there are none."""
        return Misuse(
            f"guest '{self.name}' was not booted by kgdbpatch, which keeps snapshots in a drive that it "
            "gives to guests at boot: take them with QEMU's own 'savevm'"
        )

    def shutdown(self) -> None:
        """Refuse: raise `Misuse`."""
        raise Misuse(
            f"guest '{self.name}' was not started by kgdbpatch, which does not end it: 'kgdbpatch detach "
            f"{self.name}' takes the patches out and lets go of it"
        )

    # ---- what it shows -------------------------------------------------------------------------

    @cached_property
    def ram(self) -> ProcessRam | MonitorRam | StoppedRam:  # type: ignore[override]
        """The guest's RAM, read in the best way that was found when it was attached to."""
        known = self.attachment
        if known.ram == "process":
            return ProcessRam(self, known.ram_address, known.ram_size)
        if known.ram == "monitor":
            return MonitorRam(self, known.ram_size)
        return StoppedRam(self, known.ram_size)

    @property
    def console(self) -> Console:
        """What the guest has printed; raise `Misuse` where nobody has told where that is."""
        if not self.attachment.console:
            raise Misuse(
                f"guest '{self.name}' was attached to without --console: what it prints is not known"
            )
        if is_stream(self.attachment.console) and self.alive() and not kept(self.directory):
            record(self.directory, self.attachment.console)  # who kept it was ended
        return super().console

    @property
    def heard(self) -> Console:
        """The console as far as there is one: an empty log where it is not known."""
        return super().console

    def hmp_while_stopped(self, text: str) -> str:
        """Execute a command of the human monitor through the GDB server; return its text.

        (GDB's manual, packet ``qRcmd``.) Raises `CommandFailed` where the server has no monitor.
        """
        with self.looking() as session:
            return session.monitor(text)

    def monitor(self, text: str) -> str:
        """Execute a command of the human monitor, by whatever way there is; errors as for `qmp`."""
        try:
            return self.hmp(text) if self.attachment.qmp else self.hmp_while_stopped(text)
        except CommandFailed as error:
            raise CommandFailed(f"QEMU refuses '{text}': {error}") from error


def busy_threads(pid: int, longest: float, threads: Collection[int] = ()) -> set[int]:
    """Return which threads of a process use the processor again and again within ``longest`` seconds.

    So it is told whether a QEMU without a monitor lets its guest run. A GDB server stops the guest before it
    answers anything, and says the same of one that was paused before. But a guest that runs has a clock that
    ticks, so that its virtual CPUs wake up and use some time again and again, if little; a paused one's use
    none once they have come to rest. (QEMU's other threads have timers of their own.)

    With ``threads``, only those are looked at, and not for longer than until one of them does.
    """
    end, left = time.monotonic() + longest, _LOOKS
    before, times = _used(pid, threads), Counter[int]()
    while True:
        busy = {thread for thread, count in times.items() if count >= _ENOUGH}
        if (left <= 0 and time.monotonic() >= end) or (threads and busy):
            return busy
        time.sleep(_PIECE)
        left -= 1
        now = _used(pid, threads)
        times.update(
            thread for thread, used in now.items() if used == _RUNNABLE or before.get(thread) != used
        )
        before = now


def _used(pid: int, threads: Collection[int]) -> dict[int, str]:
    """Return what threads have used (ns) and how often they were put on a CPU (schedstat of proc(5)).

    Of those that run or wait for a CPU that is not said: they are busy.
    """
    found: dict[int, str] = {}
    for task in Path(f"/proc/{pid}/task").glob("[0-9]*"):
        if not threads or int(task.name) in threads:
            with suppress(OSError):
                state = (task / "stat").read_text().rpartition(") ")[2][0]
                found[int(task.name)] = _RUNNABLE if state == _RUNNABLE else (task / "schedstat").read_text()
    return found
