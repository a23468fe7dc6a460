"""QEMU as a managed process that outlives its client: start, attach, monitor, snapshots, end."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kgdbpatch.errors import CommandFailed, TargetLost, TargetTimeout
from kgdbpatch.vm import launch, runtime
from kgdbpatch.vm.console import Console
from kgdbpatch.vm.events import EventLog
from kgdbpatch.vm.lock import exclusive
from kgdbpatch.vm.machine import MachineDescription
from kgdbpatch.vm.process import Process, boot_id, namespace
from kgdbpatch.vm.ram import Ram
from kgdbpatch.vm.runtime import GuestRecord

if TYPE_CHECKING:
    from kgdbpatch.vm.gdb import Session

__all__ = ["QUIT", "Qemu", "Ram", "Since"]

_GREETING = 20.0  # seconds for QEMU to come up; 0.1 are usual
QUIT = 3.0  # seconds a polite end may take
_SNAPSHOT_BASE, _SNAPSHOT_RATE = 30.0, 4.0  # seconds, and MiB a second that the slowest disk takes


@dataclass(frozen=True, slots=True)
class Since:
    """Where the guest's life since its power-on or last restore begins, in its console and its events."""

    console: int = 0
    events: int = 0


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Put off Ctrl-C: what is started meanwhile gets written down."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class Qemu:
    """A running guest machine; as a context manager it is shut down at the end.

    ``record`` is what is written down of it, ``metadata`` what `start` was told to keep.

    >>> with Qemu.start("g", MachineDescription.load("g3beige"), 64, ["-kernel", "vmlinux"]) as q:
    ...     q.hmp("info status")
    'VM status: running'
    """

    foreign = False  # started by somebody else
    observable = True  # its CPUs can be looked at while they run

    def __init__(self, record: GuestRecord, process: Process) -> None:
        self.record = record
        self._process: Process | None = process
        self.name, self.directory, self.pid = record.name, record.directory, record.pid
        self.architecture, self.metadata = record.architecture, record.metadata

    @property
    def process(self) -> Process:
        """QEMU's process."""
        if self._process is None:  # let go of
            self._process = self.record.process()
        return self._process

    @classmethod
    def start(
        cls,
        name: str,
        machine: MachineDescription,
        memory_mib: int,
        args: Sequence[str] | Callable[[Path], Sequence[str]] = (),
        *,
        metadata: Mapping[str, object] | None = None,
        icount: str | None = None,
    ) -> Qemu:
        """Start a guest and return once QEMU answers.

        ``args`` are QEMU's further arguments, or give them for the guest's directory, where scratch files may
        be put. Raises `Misuse` for a bad or taken name, `TargetLost` quoting QEMU when it exits.
        """
        directory = runtime.checked_directory(name)
        with runtime.starting(directory.parent):
            if directory.exists():
                runtime.clean(name)
            directory.mkdir(mode=0o700)
            try:
                launch.make_snapshot_store(directory / "snapshots.qcow2")
                words = [*(args(directory) if callable(args) else args)]
                if icount is not None:
                    words += ["-icount", icount]
                with _uninterrupted():
                    process, ram = launch.spawn(name, machine, memory_mib, words, directory)
                    record = GuestRecord(
                        name=name,
                        path=str(directory),
                        pid=process.pid,
                        started=process.started,
                        host_boot=boot_id(),
                        machine=machine.name,
                        architecture=machine.architecture,
                        memory_mib=memory_mib,
                        ram=ram,
                        metadata=dict(metadata or {}),
                        namespace=namespace(),
                    )
                    record.save()
            except BaseException:
                runtime.end_all(directory)
                runtime.clean(name)
                raise
        started = cls(record, process)
        try:
            started._greet()
        except BaseException:
            started.shutdown()
            raise
        return started

    def _greet(self) -> None:
        try:
            from kgdbpatch.vm.qmp import greet

            greet(self.directory / "qmp.sock", _GREETING)
        except TargetLost as error:
            if self.process.wait(1):
                words = runtime.last_words(self.directory)
                raise TargetLost(
                    f"QEMU exited immediately ({self.process.exit_text()}): {words or 'no message'}"
                ) from error
            raise

    @classmethod
    def attach(cls, name: str, *, dead: bool = False) -> Qemu:
        """Return a running guest, or what is left of a ``dead`` one; `UnknownGuest`, or `TargetLost`."""
        return cls.of(runtime.record(name, dead=dead))

    @classmethod
    def of(cls, record: GuestRecord) -> Qemu:
        """Return the guest of a record."""
        if record.attached is None:
            return cls(record, record.process())
        from kgdbpatch.vm.attached import AttachedQemu

        return AttachedQemu(record, record.process())

    def note(self, **more: object) -> None:
        """Keep more (JSON) of the guest, beside what `start` was told."""
        self.record.metadata.update(more)
        self.record.save()

    @property
    def binary(self) -> str:
        """The name of the program that runs the guest."""
        with suppress(OSError):
            return Path(f"/proc/{self.pid}/exe").readlink().name
        return MachineDescription.load(self.record.machine).binary

    @property
    def gdb_socket(self) -> Path:
        """The socket of QEMU's GDB server."""
        return self.directory / "gdb.sock"

    def alive(self) -> bool:
        """Tell whether QEMU still runs."""
        return self.process.alive()

    def lost(self) -> TargetLost:
        """Return the error that says how QEMU ended, in its own words, or what else is gone."""
        return self.record.lost()

    def qmp(self, command: str, *, deadline: float = 30.0, **arguments: object) -> object:
        """Execute a QMP command; `CommandFailed` with QEMU's words, `TargetLost`, `TargetTimeout`."""
        from kgdbpatch.vm.qmp import qmp  # on use: asyncio is slow to import

        try:
            return qmp(self.directory / "qmp.sock", command, arguments, deadline)
        except CommandFailed:
            raise
        except TargetLost as error:
            if self.process.wait(0.2):
                raise self.lost() from error
            raise

    def hmp(self, text: str, *, deadline: float = 30.0) -> str:
        """Execute a command of the human monitor and return its text; errors as for `qmp`."""
        answer = self.qmp("human-monitor-command", deadline=deadline, **{"command-line": text})
        return str(answer).replace("\r\n", "\n").rstrip("\n")

    def savevm(self, tag: str, *, deadline: float | None = None) -> None:
        """Save the whole state under ``tag`` (default ``deadline``: a slow disk's); raise `CommandFailed`."""
        self._snapshot("savevm", tag, deadline)

    def loadvm(self, tag: str, *, deadline: float | None = None) -> None:
        """Bring the state saved under ``tag`` back; errors as for `savevm`."""
        ran = self.runs()
        self.qmp("stop")
        try:
            self._snapshot("loadvm", tag, deadline)
            self._begin_anew()
        finally:
            if ran:
                self.qmp("cont")

    def delvm(self, tag: str, *, deadline: float | None = None) -> None:
        """Delete the state saved under ``tag``; errors as for `savevm`."""
        self._snapshot("delvm", tag, deadline)

    def snapshots(self) -> list[Mapping[str, Any]]:
        """Return what QEMU tells of each saved state: ``name``, ``date-sec``, ``vm-state-size``, …"""
        nodes = self.qmp("query-named-block-nodes", flat=True)
        images = (
            [node.get("image", {}) for node in nodes if isinstance(node, dict)]
            if isinstance(nodes, list)
            else []
        )
        found = (one for image in images for one in image.get("snapshots", ()))
        return [one for one in found if one.get("vm-state-size")]

    def runs(self) -> bool:
        """Tell whether the guest's CPU is let run, as far as QEMU is concerned."""
        stopped = self.events.update().stopped
        if stopped is None:
            answer = self.qmp("query-status")
            return bool(answer.get("running")) if isinstance(answer, dict) else True
        return not stopped

    def cpus(self) -> int:
        """Return how many CPUs the guest has."""
        found = self.qmp("query-cpus-fast")
        return len(found) if isinstance(found, list) else 1

    @contextmanager
    def debugged(self) -> Iterator[bool]:
        """Note that a debugger stops the guest; yield whether it is paused, and so to be left paused."""
        note = self.directory / "debugged"
        paused = not self.runs()
        if paused and note.exists():
            paused = note.read_text() == "paused"
        note.write_text("paused" if paused else "running")
        try:
            yield paused
        except (TargetLost, TargetTimeout):
            raise  # QEMU may stop it yet, for a debugger that has given up: the next one lets it go on
        except BaseException:
            with suppress(TargetLost):  # unless the debugger could not put it back, nothing is to be noted
                if self.runs() is not paused:
                    note.unlink(missing_ok=True)
            raise
        note.unlink(missing_ok=True)

    def left_by_debugger(self) -> bool:
        """Tell whether the guest was stopped by a debugger that was killed since."""
        note = self.directory / "debugged"
        return note.exists() and note.read_text() == "running" and not self.runs()

    def note_paused(self, paused: bool) -> None:
        """Note that the guest is paused by its user, or is not; here QEMU itself tells."""

    def at_hand(self, session: Session) -> AbstractContextManager[None]:
        """Note that a debugger has stopped the guest; here, nothing depends on it."""
        return nullcontext()

    def close(self) -> None:
        """Let go of what was opened; whatever is asked for later is opened anew."""
        if self._process is not None:
            self._process.close()
            self._process = None

    @property
    def since(self) -> Since:
        """Where the guest's present life begins."""
        try:
            return Since(**json.loads((self.directory / "since.json").read_text()))
        except (OSError, ValueError, TypeError):
            return Since()

    def _begin_anew(self) -> None:
        draft = self.directory / "since.json.new"
        console = (self.directory / "console.log").stat().st_size
        draft.write_text(json.dumps(asdict(Since(console, self.events.position()))))
        draft.rename(self.directory / "since.json")

    @cached_property
    def events(self) -> EventLog:
        """What QEMU noted of the guest while nobody looked."""
        return EventLog(self.directory)

    def _snapshot(self, command: str, tag: str, deadline: float | None) -> None:
        enough = _SNAPSHOT_BASE + self.record.memory_mib / _SNAPSHOT_RATE
        words = self.hmp(f"{command} {tag}", deadline=enough if deadline is None else deadline).strip()
        if words:
            raise CommandFailed(f"QEMU refuses {command} {tag}: {words.removeprefix('Error: ')}")

    @cached_property
    def ram(self) -> Ram:
        """The guest's RAM, readable while it runs."""
        try:
            return Ram(self.record.ram, self.record.memory_mib << 20)
        except TargetLost:
            if not self.alive():
                raise self.lost() from None
            raise

    @cached_property
    def console(self) -> Console:
        """What the guest has printed, and a way to type."""
        return Console(self.directory / "console.log", self.directory / "console.sock", self)

    @property
    def heard(self) -> Console:
        """The console as far as there is one, for whoever makes do with less."""
        return self.console

    def exclusive(self, wait: float, *, settles: bool = False) -> AbstractContextManager[bool]:
        """Hold the guest for oneself; yield whether the last holder ended in order. As `locked`."""
        return exclusive(self.directory / "lock", self.name, wait, settles=settles)

    def shutdown(self) -> None:
        """End the guest, by force if need be, and remove its directory."""
        if self.alive():
            polite = QUIT
            try:
                self.qmp("quit", deadline=QUIT)
            except TargetLost:
                polite = 0.0
            if not self.process.wait(polite):
                self.process.kill()
                self.process.wait(QUIT)
        runtime.forget(self.record)

    def __enter__(self) -> Qemu:
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
