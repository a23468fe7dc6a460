"""QEMU as a managed process that outlives its client: start, attach, monitor, snapshots, end."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import cached_property
from pathlib import Path

from kgdbpatch.errors import CommandFailed, TargetLost
from kgdbpatch.target import launch, runtime
from kgdbpatch.target.console import Console
from kgdbpatch.target.lock import exclusive
from kgdbpatch.target.machine import MachineDescription
from kgdbpatch.target.process import Process, boot_id
from kgdbpatch.target.qmp import greet, qmp
from kgdbpatch.target.ram import Ram
from kgdbpatch.target.runtime import GuestRecord

__all__ = ["Qemu", "Ram"]

_GREETING = 20.0  # seconds for QEMU to come up; 0.1 are usual
_QUIT = 3.0  # seconds a polite end may take


class Qemu:
    """A running guest machine; as a context manager it is shut down at the end.

    >>> with Qemu.start("g", MachineDescription.load("g3beige"), 64, ["-kernel", "vmlinux"]) as q:
    ...     q.hmp("info status")
    'VM status: running'
    """

    def __init__(self, record: GuestRecord, process: Process) -> None:
        self._record, self._process = record, process

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

        ``args`` are QEMU's further arguments, or a function that gives them for the guest's
        directory, where scratch files may be put. ``metadata`` (JSON) is kept for `attach`.
        Raises `Misuse` for a bad or taken name, `TargetLost` quoting QEMU when it exits.
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
                )
                record.save()
            except BaseException:
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
            greet(self.directory / "qmp.sock", _GREETING)
        except TargetLost as error:
            if self._process.wait(1):
                words = (self.directory / "qemu.stderr").read_text(errors="replace").strip()
                raise TargetLost(
                    f"QEMU exited immediately ({self._process.exit_text()}): {words or 'no message'}"
                ) from error
            raise

    @classmethod
    def attach(cls, name: str) -> Qemu:
        """Return a running guest; it is neither stopped nor changed.

        Raises `UnknownGuest`, or `TargetLost` with QEMU's last words when it has died.
        """
        record = runtime.record(name)
        return cls(record, record.process())

    @property
    def name(self) -> str:
        """The guest's name."""
        return self._record.name

    @property
    def directory(self) -> Path:
        """The guest's private directory."""
        return self._record.directory

    @property
    def pid(self) -> int:
        """QEMU's process id."""
        return self._record.pid

    @property
    def metadata(self) -> dict[str, object]:
        """What `start` was told to keep."""
        return self._record.metadata

    @property
    def architecture(self) -> str:
        """GDB's name of the CPU."""
        return self._record.architecture

    @property
    def process(self) -> Process:
        """QEMU's process, for waiting on its end."""
        return self._process

    @property
    def gdb_socket(self) -> Path:
        """The socket of QEMU's GDB server."""
        return self.directory / "gdb.sock"

    def alive(self) -> bool:
        """Tell whether QEMU still runs."""
        return self._process.alive()

    def lost(self) -> TargetLost:
        """Return the error that says how QEMU ended, in its own words."""
        return runtime.lost(self.name, self._process, self.directory)

    def qmp(self, command: str, *, deadline: float = 30.0, **arguments: object) -> object:
        """Execute a QMP command and return its answer.

        Raises `CommandFailed` with QEMU's words, `TargetLost`, or `TargetTimeout` after
        ``deadline`` seconds.
        """
        return self._execute(command, arguments, deadline)

    def _execute(self, command: str, arguments: Mapping[str, object], deadline: float) -> object:
        try:
            return qmp(self.directory / "qmp.sock", command, arguments, deadline)
        except CommandFailed:
            raise
        except TargetLost as error:
            if self._process.wait(0.2):
                raise self.lost() from error
            raise

    def hmp(self, text: str, *, deadline: float = 30.0) -> str:
        """Execute a command of the human monitor and return its text; errors as for `qmp`."""
        answer = self._execute("human-monitor-command", {"command-line": text}, deadline)
        return str(answer).replace("\r\n", "\n").rstrip("\n")

    def savevm(self, tag: str) -> None:
        """Save the whole state under ``tag``; raises `CommandFailed` with QEMU's words."""
        self._snapshot("savevm", tag)

    def loadvm(self, tag: str) -> None:
        """Bring the state saved under ``tag`` back; raises `CommandFailed` with QEMU's words."""
        self._snapshot("loadvm", tag)

    def _snapshot(self, command: str, tag: str) -> None:
        words = self.hmp(f"{command} {tag}").strip()
        if words:
            raise CommandFailed(f"QEMU refuses {command} {tag}: {words.removeprefix('Error: ')}")

    @cached_property
    def ram(self) -> Ram:
        """The guest's RAM, readable while it runs."""
        try:
            return Ram(self._record.ram, self._record.memory_mib << 20)
        except TargetLost:
            if not self.alive():
                raise self.lost() from None
            raise

    @cached_property
    def console(self) -> Console:
        """What the guest has printed, and a way to type."""
        return Console(self.directory / "console.log", self.directory / "console.sock", self)

    def exclusive(self, wait: float) -> AbstractContextManager[None]:
        """Hold the guest for oneself; raises `TargetBusy` naming the holder after ``wait`` seconds."""
        return exclusive(self.directory / "lock", self.name, wait)

    def shutdown(self) -> None:
        """End the guest, by force if need be, and remove its directory."""
        if self.alive():
            polite = _QUIT
            try:
                self.qmp("quit", deadline=_QUIT)
            except TargetLost:
                polite = 0.0
            if not self._process.wait(polite):
                self._process.kill()
                self._process.wait(_QUIT)
        runtime.forget(self._record)

    def __enter__(self) -> Qemu:
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
