"""QEMU as a managed process: it outlives the command that booted it, and is always found again."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import select
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

from qemu.qmp import ExecuteError, QMPClient, QMPError

from kgdbpatch.errors import Misuse, TargetBusy, TargetLost, TargetTimeout
from kgdbpatch.target import runtime
from kgdbpatch.target.console import Console
from kgdbpatch.target.machine import MachineDescription
from kgdbpatch.target.ram import Ram

__all__ = ["Qemu", "Ram"]

_BINARY = "qemu-system-ppc"
_PATIENCE = 30.0  # seconds for one QMP command
_GRACE = 5.0  # seconds to end after being asked to
_SHARED_MEMORY = Path("/dev/shm")


class Qemu:
    """One running QEMU and its guest.

    Make one with `start` or `attach`. As a context manager it is shut down at the end.
    """

    def __init__(self, kept: runtime.GuestRecord, process: subprocess.Popen[bytes] | None = None) -> None:
        self._kept, self._process = kept, process
        self.name, self.directory, self.pid = kept.name, kept.directory, kept.pid
        self.metadata: Mapping[str, Any] = kept.metadata
        self.console = Console(kept.directory / "console.log", self._death)

    # ---- life ------------------------------------------------------------------------

    @classmethod
    def start(
        cls,
        name: str,
        machine: MachineDescription,
        memory_mib: int,
        args: Callable[[Path], Sequence[str]],
        *,
        metadata: Mapping[str, Any],
        icount: str | None = None,
    ) -> Qemu:
        """Start QEMU detached; return when it answers.

        ``args(directory)`` gives the guest's own arguments and may put files into the guest's
        directory; ``icount`` is the value of QEMU's option. Raises `TargetLost` with QEMU's words
        when it does not come up, `Misuse` when a guest of that name runs.
        """
        if shutil.which(_BINARY) is None:
            raise TargetLost(
                f"{_BINARY} is not installed; run scripts/setup, or: apt install qemu-system-ppc"
            )
        runtime.guests()  # removes what a dead guest of that name left
        directory = runtime.directory_of(name)
        try:
            directory.mkdir(mode=0o700)
        except FileExistsError:
            raise Misuse(
                f"guest '{name}' is running already; choose another --name, or shut it down"
            ) from None
        size = memory_mib << 20
        ram = _ram_path(directory, size)
        try:
            own = list(args(directory))
            process = _launch(directory, machine, ram, memory_mib, own, icount)
        except BaseException:
            ram.unlink(missing_ok=True)
            shutil.rmtree(directory, ignore_errors=True)
            raise
        kept = runtime.GuestRecord(
            name,
            directory,
            process.pid,
            runtime.process_start(process.pid) or 0,
            ram,
            size,
            {**metadata, "architecture": machine.architecture},
        )
        runtime.save(kept)
        started = cls(kept, process)
        try:
            started.qmp("query-status")
        except BaseException:
            started.shutdown()
            raise
        return started

    @classmethod
    def attach(cls, name: str) -> Qemu:
        """Find a running guest by name; raise `UnknownGuest`, or `TargetLost` when it has died."""
        found = cls(runtime.record(name))
        if (dead := found._death()) is not None:
            raise dead
        return found

    def alive(self) -> bool:
        """Whether QEMU runs."""
        return self._kept.alive

    def _death(self) -> TargetLost | None:
        return None if self.alive() else self.lost()

    def lost(self) -> TargetLost:
        """Return the error that quotes QEMU's last words."""
        code = self._process.poll() if self._process is not None else None
        how = f" (exit code {code})" if code is not None else ""
        try:
            words = (self.directory / "qemu.stderr").read_text(errors="replace").strip().splitlines()
        except FileNotFoundError:
            words = []
        said = f"; it said: {' / '.join(words[-3:])}" if words else ""
        what = "has ended" if not self.alive() else "does not answer"
        return TargetLost(f"QEMU of guest '{self.name}' {what}{how}{said}")

    def shutdown(self) -> None:
        """End QEMU, whatever state it is in, and remove its directory."""
        if self.alive():
            with contextlib.suppress(TargetLost):
                self.qmp("quit", patience=_GRACE)
            for number in (None, signal.SIGTERM, signal.SIGKILL):
                if number is not None:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(self.pid, number)
                if self._ended():
                    break
        if self._process is not None:
            self._process.wait()
        runtime.discard(self._kept)

    def _ended(self) -> bool:
        try:
            handle = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return True
        try:
            return bool(select.select([handle], [], [], _GRACE)[0])
        finally:
            os.close(handle)

    def __enter__(self) -> Qemu:
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()

    # ---- use -------------------------------------------------------------------------

    @cached_property
    def ram(self) -> Ram:
        """The guest's RAM, for reading without a stop."""
        return Ram(self._kept.ram, self._kept.ram_size)

    def qmp(self, command: str, patience: float = _PATIENCE, **arguments: object) -> Any:
        """Execute a QMP command; raise `TargetLost` when QEMU is gone or refuses it."""

        async def execute() -> object:
            client = QMPClient(self.name)
            await client.connect(str(self.directory / "qmp.sock"))
            try:
                return await client.execute(command, dict(arguments) or None)
            finally:
                with contextlib.suppress(QMPError, EOFError, OSError):
                    await client.disconnect()

        try:
            return asyncio.run(asyncio.wait_for(execute(), patience))
        except ExecuteError as error:
            raise TargetLost(f"QEMU refuses '{command}': {error}") from error
        except TimeoutError as error:
            raise TargetTimeout(f"QEMU does not answer '{command}' within {patience:g} s") from error
        except (QMPError, EOFError, OSError) as error:
            raise self.lost() from error

    def hmp(self, line: str) -> str:
        """Execute a line of QEMU's human monitor and return what it prints."""
        return str(self.qmp("human-monitor-command", **{"command-line": line}))

    def savevm(self, tag: str) -> None:
        """Save the whole state of the guest as ``tag``."""
        self._snapshot(f"savevm {tag}")

    def loadvm(self, tag: str) -> None:
        """Go back to the state saved as ``tag``."""
        self._snapshot(f"loadvm {tag}")

    def _snapshot(self, line: str) -> None:
        if complaint := self.hmp(line).strip():
            raise TargetLost(f"QEMU cannot {line}: {complaint}")

    @contextmanager
    def exclusive(self, wait: float) -> Iterator[None]:
        """Hold the guest for one operation, first come first served (paper, 3.3.1).

        Raises `TargetBusy` with the holder's pid after ``wait`` seconds.
        """
        try:
            lock = os.open(self.directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except FileNotFoundError as error:
            raise self.lost() from error
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                # flock(1) waits with a deadline; the lock stays with our open file
                done = subprocess.run(["flock", "-w", f"{wait:g}", str(lock)], pass_fds=[lock], check=False)
                if done.returncode:
                    holder = os.pread(lock, 20, 0).decode() or "unknown"
                    raise TargetBusy(
                        f"guest '{self.name}' is in use by another client (pid {holder}); waited {wait:g} s"
                    ) from None
            os.truncate(lock, 0)
            os.pwrite(lock, str(os.getpid()).encode(), 0)
            yield
        finally:
            os.close(lock)


def _ram_path(directory: Path, size: int) -> Path:
    """Return where the RAM file shall be: in shared memory where there is room, else beside the rest."""
    if _SHARED_MEMORY.is_dir() and shutil.disk_usage(_SHARED_MEMORY).free > 2 * size:
        return _SHARED_MEMORY / f"kgdbpatch-{os.getuid()}-{os.getpid()}-{directory.name}-{time.time_ns():x}"
    return directory / "ram"


def _listener(path: Path) -> socket.socket:
    """Return a listening socket for QEMU to inherit: who connects before QEMU is up just waits."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen(4)
    return listener


def _launch(
    directory: Path,
    machine: MachineDescription,
    ram: Path,
    memory_mib: int,
    own: Sequence[str],
    icount: str | None,
) -> subprocess.Popen[bytes]:
    snapshots = directory / "snapshots.qcow2"
    subprocess.run(
        ["qemu-img", "create", "-q", "-f", "qcow2", snapshots, "1M"], check=True, capture_output=True
    )
    descriptor = os.open(ram, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
    os.close(descriptor)
    with contextlib.ExitStack() as stack:
        qmp, gdb, console = (
            stack.enter_context(_listener(directory / f"{name}.sock")) for name in ("qmp", "gdb", "console")
        )
        stderr = stack.enter_context((directory / "qemu.stderr").open("wb"))
        (directory / "console.log").touch()
        command = [
            _BINARY,
            *machine.args,
            *("-M", f"{machine.machine},memory-backend=ram", "-cpu", machine.cpu, "-m", str(memory_mib)),
            *("-object", f"memory-backend-file,id=ram,size={memory_mib}M,mem-path={ram},share=on"),
            *("-chardev", f"socket,id=qmp,fd={qmp.fileno()},server=on,wait=off"),
            *("-mon", "chardev=qmp,mode=control"),
            *("-chardev", f"socket,id=gdb,fd={gdb.fileno()},server=on,wait=off", "-gdb", "chardev:gdb"),
            "-chardev",
            f"socket,id=console,fd={console.fileno()},server=on,wait=off,logfile={directory / 'console.log'}",
            *("-serial", "chardev:console"),
            *("-drive", f"file={snapshots},format=qcow2,if=none,id=snapshots"),
            *(("-icount", icount) if icount is not None else ()),
            *own,
        ]
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=stderr,
            stderr=stderr,
            pass_fds=[qmp.fileno(), gdb.fileno(), console.fileno()],
            start_new_session=True,
        )
