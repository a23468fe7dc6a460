"""The first contact with a QEMU that somebody else started: what it is, and how its RAM can be read.

One stop of the guest. QEMU's human monitor is asked through the GDB server itself, so that nothing else
need be known of it. (QEMU, "QEMU Monitor"; GDB's manual, packet ``qRcmd``.)
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np

from kgdbpatch.errors import KgdbPatchError, Misuse, TargetBusy, TargetLost
from kgdbpatch.vm import runtime
from kgdbpatch.vm.attached import AttachedQemu, busy_threads
from kgdbpatch.vm.foreign_console import is_stream, let_go
from kgdbpatch.vm.foreign_console import record as record_console
from kgdbpatch.vm.foreign_ram import MonitorRam, ProcessRam
from kgdbpatch.vm.gdb import Debugger, Session
from kgdbpatch.vm.gdb_process import Gdb
from kgdbpatch.vm.peer import holders, listeners, wait_for_turn
from kgdbpatch.vm.process import boot_id, namespace, start_time
from kgdbpatch.vm.runtime import Attachment, GuestRecord
from kgdbpatch.vm.server import console_place, gdb_server, is_local, unix_socket

__all__ = ["GREETING", "WATCHED", "meet"]

_ARCHITECTURE = "powerpc:common"  # GDB's name; what registers there are QEMU says itself
GREETING = 5.0  # seconds for QEMU's monitor to greet
WATCHED = 1.0  # seconds in which a guest that runs is seen to do something
_PATIENCE = 1  # seconds that GDB waits for an answer; it asks three times
_HEAD = 8 << 20  # bytes of RAM in which a kernel leaves something
_SAMPLES, _SAMPLE = 32, 256  # places of it that are compared, and bytes of each
_SYSTEM = 'AS "memory"'  # the CPUs' address space; devices see RAM through windows of their own
_RAM = re.compile(
    r"^ +([0-9a-f]{16})-([0-9a-f]{16}) \(prio -?\d+, ram\): (\S+)(?: @([0-9a-f]+))?", re.MULTILINE
)
_HOST = re.compile(r"Host virtual address for \S+ \(.*\) is (0x[0-9a-f]+)")
_THREAD = re.compile(r"thread_id=(\d+)")


def meet(
    name: str, *, gdb: str, qmp: str = "", console: str = "", remote: bool = False, paused: bool = False
) -> AttachedQemu:
    """Attach to the QEMU whose GDB server is at ``gdb`` (``unix:PATH``, ``HOST:PORT``), left as it was.

    ``qmp`` is the socket of a QMP monitor of it, ``console`` where the guest's console is (a file that QEMU
    writes, ``unix:PATH``, ``HOST:PORT`` or a terminal: `kgdbpatch.vm.server.console_place`), ``paused`` says
    that it stands still where that cannot be seen. Raises `Misuse` for a bad or taken name, a guest that is
    attached to already or none that runs on a 32-bit PowerPC, `TargetLost` where there is no GDB server of
    QEMU's, `TargetBusy` naming another client of it or of the console.
    """
    server = gdb_server(gdb, remote=remote)
    monitor = str(unix_socket(qmp, "--qmp")) if qmp else ""
    printed = console_place(console, remote=remote) if console else ""
    directory = runtime.checked_directory(name)
    known = listeners(Path(server)) if is_local(server) else []
    if is_local(server) and not server.startswith("/") and not known:
        raise TargetLost(f"--gdb: nobody listens at {server}")
    pids = [pid for pid, _ in holders(known)]
    with runtime.starting(directory.parent):
        _check_new(server, known, pids)
        if directory.exists():
            runtime.clean(name)
        directory.mkdir(mode=0o700)
        record = GuestRecord(
            name=name,
            path=str(directory),
            pid=0,
            started=0,
            host_boot=boot_id(),
            machine="",
            architecture=_ARCHITECTURE,
            memory_mib=0,
            ram="",
            namespace=namespace(),
            attached=Attachment(server, known[0] if known else 0, monitor, printed, paused=paused),
        )
        record.save()
    try:
        for link, target in (("gdb.sock", server), ("qmp.sock", monitor), ("console.log", printed)):
            if target.startswith("/"):
                (directory / link).symlink_to(target)
        (directory / "console.log").touch(0o600)
        if is_stream(printed):
            record_console(directory, printed)
        return _met(record, pids)
    except BaseException:
        let_go(directory)
        shutil.rmtree(directory, ignore_errors=True)
        raise


def _check_new(server: str, known: list[int], pids: list[int]) -> None:
    for guest in runtime.guests():
        if guest.attached is None:
            if guest.pid in pids:
                raise Misuse(
                    f"the GDB server at {server} is that of guest '{guest.name}', which kgdbpatch booted"
                )
        elif guest.attached.gdb == server or guest.attached.listener in known:
            raise Misuse(f"the guest at {server} is attached to already: it is called '{guest.name}'")


def _met(record: GuestRecord, pids: list[int]) -> AttachedQemu:
    qemu = AttachedQemu(record, record.process())
    assert record.attached is not None
    asks = bool(record.attached.qmp)
    if asks:
        from kgdbpatch.vm.qmp import greet

        socket = record.directory / "qmp.sock"
        wait_for_turn(socket, f"QEMU's monitor at {record.attached.qmp} is in use", GREETING)
        greet(socket, GREETING)
    busy = set[int]() if asks else {thread for pid in pids for thread in busy_threads(pid, WATCHED)}
    with _First(qemu, GREETING) as debugger, debugger.stopped() as session:
        threads = tuple(int(thread) for thread in _THREAD.findall(_said(session, "info cpus")))
        cpus = max(1, len(threads))
        pids = [
            pid
            for pid in pids
            if threads and all(Path(f"/proc/{pid}/task/{one}").exists() for one in threads)
        ]
        if not asks and pids and not busy.intersection(threads):
            session.stays_stopped = True
        if "prelaunch" in _said(session, "info status"):
            session.stays_stopped = True
        status = qemu.qmp("query-status") if asks else {}
        if isinstance(status, dict) and status.get("running"):
            raise Misuse(f"--qmp is the monitor of another QEMU than --gdb: {record.attached.qmp}")
        size, start = _memory(session)
        pid = pids[0] if pids else 0
        found = replace(
            record,
            pid=pid,
            started=(start_time(pid) or 0) if pid else 0,
            memory_mib=size >> 20,
            attached=replace(record.attached, threads=threads if pid else (), cpus=cpus, ram_size=size),
        )
        found = _best_ram(found, session, start, size)
    found.save()
    return AttachedQemu(found, found.process())


def _said(session: Session, command: str) -> str:
    text = session.monitor(command)
    if not text.strip() or "unknown command" in text:
        raise TargetLost(f"the GDB server is not QEMU's: to 'monitor {command}' it says {text.strip()!r}")
    return text


def _memory(session: Session) -> tuple[int, int]:
    """Return the size of the RAM from physical address 0 on, and where QEMU's process has it."""
    size, name = 0, ""
    views = _said(session, "info mtree -f").split("\nFlatView ")
    seen = next((view for view in views if _SYSTEM in view), "".join(views))
    for start, last, region, offset in _RAM.findall(seen):
        if int(start, 16) == size == int(offset or "0", 16) and name in ("", region):
            size, name = int(last, 16) + 1, region
    if not size:
        raise TargetLost("QEMU's 'info mtree' tells of no RAM at physical address 0")
    host = _HOST.search(_said(session, "gpa2hva 0"))
    return size, int(host[1], 16) if host else 0


def _best_ram(record: GuestRecord, session: Session, start: int, size: int) -> GuestRecord:
    """Return the record with the best way to read RAM, which is proven by what the debugger reads."""
    assert record.attached is not None
    reasons: list[str] = []
    for kind in ("process", "monitor"):
        known = replace(record.attached, ram=kind, ram_address=start, ram_reason="; ".join(reasons))
        tried = replace(record, attached=known)
        qemu = AttachedQemu(tried, tried.process())
        try:
            if kind == "process" and not (record.pid and start):
                raise TargetLost("QEMU's process is not seen from here")
            with qemu.at_hand(session):
                ram = ProcessRam(qemu, start, size) if kind == "process" else MonitorRam(qemu, size)
                _prove(ram, session)
        except KgdbPatchError as error:
            reasons.append(str(error))
        else:
            return tried
    return replace(record, attached=replace(record.attached, ram="stops", ram_reason="; ".join(reasons)))


def _prove(ram: ProcessRam | MonitorRam, session: Session) -> None:
    """Raise `TargetLost` unless what is read is the stopped guest's RAM, as far as samples tell."""
    size = min(ram.size, _HEAD) // _SAMPLE * _SAMPLE
    pieces = ram.array(0, size).reshape(-1, _SAMPLE)
    held = np.flatnonzero(pieces.any(axis=1))
    if held.size < _SAMPLES:
        raise TargetLost("too little is in the guest's RAM to compare it")
    for index in held[np.linspace(0, held.size - 1, _SAMPLES).astype(int)].tolist():
        if pieces[index].tobytes() != session.peek_physical(index * _SAMPLE, _SAMPLE):
            raise TargetLost("it does not hold what the debugger reads")


class _First(Debugger):
    """A debugger that does not wait long for what may be no GDB server at all."""

    def _new_gdb(self, *more: str) -> Gdb:
        return super()._new_gdb(f"remotetimeout {_PATIENCE}", "tcp auto-retry off", *more)

    @contextmanager
    def stopped(self) -> Iterator[Session]:
        """As `Debugger.stopped`; raises `TargetLost` where no GDB server of QEMU's answers."""
        with ExitStack() as closing:
            try:
                session = closing.enter_context(super().stopped())
            except TargetBusy:
                raise
            except TargetLost as error:
                server = cast(AttachedQemu, self._qemu).attachment.gdb
                raise TargetLost(f"no GDB server of a PowerPC QEMU answers at {server}: {error}") from error
            yield session
