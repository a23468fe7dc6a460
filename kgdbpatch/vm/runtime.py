"""The runtime directory: one sub-directory per guest, found by every command of this user."""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import time
from contextlib import AbstractContextManager, suppress
from dataclasses import asdict, dataclass, field
from difflib import get_close_matches
from pathlib import Path

from kgdbpatch.errors import Misuse, TargetBusy, TargetLost, UnknownGuest
from kgdbpatch.vm.lock import held, locked
from kgdbpatch.vm.peer import listeners
from kgdbpatch.vm.process import Process, Unseen, boot_id, namespace, processes_with, start_time

__all__ = [
    "NAME",
    "WAIT",
    "Attachment",
    "GuestRecord",
    "checked_directory",
    "clean",
    "end_all",
    "ended",
    "forget",
    "guests",
    "last_words",
    "private_directory",
    "record",
    "starting",
]

NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,63}")
_SOCKETS = ("qmp.sock", "gdb.sock", "console.sock")
_SOCKET_PATH_LIMIT = 107  # bytes, unix(7)
_TAIL = 2000  # characters of QEMU's stderr that an error quotes
WAIT = 10.0  # seconds for another client to finish making or removing a guest's directory
# What a dead guest leaves is of use, but for its RAM's size on disk.
_DROPPED = ("snapshots.qcow2", "disk*.qcow2", "boot-*.bin", *_SOCKETS)


@dataclass(frozen=True, slots=True)
class Attachment:
    """How a guest is reached that somebody else started.

    ``gdb`` is an absolute path, or ``HOST:PORT``; ``listener`` that socket's inode, 0 where it is not told;
    ``qmp`` is a path, or empty; ``console`` a file's path, ``unix:PATH``, ``pty:PATH``, ``HOST:PORT``, or
    empty. ``ram`` says how its RAM is read: ``process`` (at
    ``ram_address``), ``monitor`` or ``stops``, and ``ram_reason`` why no better way is left.
    """

    gdb: str
    listener: int = 0
    qmp: str = ""
    console: str = ""
    threads: tuple[int, ...] = ()  # of QEMU's process, which run the virtual CPUs
    cpus: int = 1
    paused: bool = False  # told by the user, where it cannot be seen
    ram: str = "stops"
    ram_address: int = 0
    ram_size: int = 0
    ram_reason: str = ""

    @property
    def address(self) -> Path:
        """The server as `kgdbpatch.vm.peer` takes it."""
        return Path(self.gdb)

    def listens(self) -> bool:
        """Tell whether the server is still there, as far as that is told without a connection."""
        return not self.listener or self.listener in listeners(self.address)


@dataclass(frozen=True, slots=True)
class GuestRecord:
    """What is known of a guest without asking it; kept as ``guest.json`` in its directory."""

    name: str
    path: str  # the guest's private directory
    pid: int
    started: int  # of the process, clock ticks since the host booted
    host_boot: str
    machine: str
    architecture: str
    memory_mib: int
    ram: str  # a path that opens the guest's RAM while QEMU lives
    metadata: dict[str, object] = field(default_factory=dict)
    namespace: str = ""  # that the pid is one of
    damage: str = ""  # what is wrong with the record's file; nothing but name, path and pid is known then
    attached: Attachment | None = None  # of a guest that somebody else started

    @property
    def directory(self) -> Path:
        """The guest's private directory."""
        return Path(self.path)

    def alive(self) -> bool:
        """Tell whether the guest's QEMU still runs."""
        if self.attached is not None and self.pid == 0:
            return self.host_boot == boot_id() and self.attached.listens()
        return self.elsewhere() or (self.host_boot == boot_id() and start_time(self.pid) == self.started)

    def elsewhere(self) -> bool:
        """Tell whether the guest's QEMU runs in another PID namespace (a container's, or outside ours)."""
        return bool(self.namespace) and self.namespace != namespace() and held(self.directory / "alive")

    def process(self) -> Process:
        """Return the guest's QEMU process."""
        if self.attached is not None and self.pid == 0:
            return Unseen(self.attached.listens)
        return Process(self.pid, self.started, self.directory)

    def lost(self) -> TargetLost:
        """Return the error that says how the guest's QEMU ended."""
        if self.attached is not None:
            why = f"{self.gone}; 'kgdbpatch detach {self.name}' forgets it"
        elif (words := last_words(self.directory)) is None:
            why = "it was shut down"
        else:
            why = f"QEMU ended ({self.process().exit_text()}); its last words: {words or 'none'}"
        return TargetLost(f"guest '{self.name}' is gone: {why}")

    @property
    def gone(self) -> str:
        """Why a guest that was attached to is no longer there."""
        if self.pid == 0:
            return "its GDB server is closed"
        return f"its QEMU (process {self.pid}) has ended"

    def save(self) -> None:
        """Write the record, wholly or not at all."""
        draft = self.directory / "guest.json.new"
        draft.write_text(json.dumps(asdict(self), indent=1) + "\n")
        draft.rename(self.directory / "guest.json")


def _root() -> Path:
    chosen = os.environ.get("KGDBPATCH_RUNTIME")
    if chosen:
        return Path(chosen).absolute()
    user = os.environ.get("XDG_RUNTIME_DIR")
    if user and os.access(user, os.W_OK):
        return Path(user).absolute() / "kgdbpatch"
    return Path(f"/tmp/kgdbpatch-{os.getuid()}")


def private_directory() -> Path:
    """Return the runtime directory; create it, and refuse one that others could write to."""
    root = _root()
    root.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileExistsError):
        root.mkdir(mode=0o700)
    state = root.lstat()
    if not stat.S_ISDIR(state.st_mode) or state.st_uid != os.getuid():
        raise Misuse(f"{root} is not a directory of your own; set KGDBPATCH_RUNTIME to one")
    if stat.S_IMODE(state.st_mode) & 0o077:
        raise Misuse(f"{root} is open to other users (mode {stat.S_IMODE(state.st_mode):04o}); chmod 700 it")
    return root


def checked_directory(name: str) -> Path:
    """Return the directory of a guest to be, once its name is fit for files and sockets."""
    if not NAME.fullmatch(name):
        raise Misuse(f"guest name '{name}' is not of the form [A-Za-z0-9_.-]{{1,64}} (no leading '.')")
    directory = private_directory() / name
    longest = max(len(os.fsencode(directory / socket)) for socket in _SOCKETS)
    if longest > _SOCKET_PATH_LIMIT:
        raise Misuse(
            f"the path of the sockets in {directory} would have {longest} bytes, the system's limit is "
            f"{_SOCKET_PATH_LIMIT}; set KGDBPATCH_RUNTIME to a shorter one"
        )
    return directory


def starting(root: Path, wait: float = WAIT) -> AbstractContextManager[bool]:
    """Hold the lock under which guests' directories in ``root`` are made and removed; or `TargetBusy`."""
    return locked(root / ".lock", f"a guest is being started or removed in {root}", wait)


def _load(directory: Path) -> GuestRecord | None:
    """Return what is written down of a guest; None where nothing is, or nothing that a QEMU stands behind."""
    path = directory / "guest.json"
    try:
        held = json.loads(path.read_text())
        if held.get("attached"):
            threads = tuple(held["attached"].pop("threads", ()))
            held["attached"] = Attachment(**held["attached"], threads=threads)
        return GuestRecord(**held)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, TypeError, AttributeError, OSError) as error:
        running = processes_with(str(directory / "pid"), without=str(directory / "exit"))
        if not running:
            return None
        first = running[0]
        damage = f"{path} is damaged or of another version ({error})"
        return GuestRecord(
            directory.name, str(directory), first.pid, first.started, boot_id(), "", "", 0, "", damage=damage
        )


def end_all(directory: Path) -> None:
    """End the processes of the guest in ``directory``, QEMU's watcher too."""
    until = time.monotonic() + WAIT
    while (running := processes_with(str(directory / "pid"))) and time.monotonic() < until:
        for process in running:
            process.kill()
        for process in running:
            process.wait(1)


def clean(name: str) -> None:
    """Remove what a dead guest left; the caller holds `starting`. Raises `Misuse` when it is alive."""
    directory = private_directory() / name
    found = _load(directory)
    if found is not None and found.alive():
        if found.attached is not None:
            raise Misuse(f"'{name}' is attached to {found.attached.gdb}; detach it or choose another name")
        raise Misuse(f"guest '{name}' is running (pid {found.pid}); shut it down or choose another name")
    if found is None:
        end_all(directory)  # its client was ended between starting it and writing it down
    else:
        found.process().settle()
    shutil.rmtree(directory, ignore_errors=True)


def forget(known: GuestRecord) -> None:
    """Remove the directory of an ended guest, unless another one has its name by now."""
    if not known.directory.exists():
        return
    with starting(known.directory.parent):
        found = _load(known.directory)
        if found is None or (found.pid, found.started) == (known.pid, known.started):
            known.process().settle()
            shutil.rmtree(known.directory, ignore_errors=True)


def guests() -> list[GuestRecord]:
    """Return the running guests by name; end a QEMU that nobody wrote down, as its client died."""
    return [found for found in _known() if found.alive()]


def ended() -> list[GuestRecord]:
    """Return the guests that have died and whose names were not booted again, sorted by name."""
    found = [found for found in _known() if not found.alive()]
    for dead in found:
        dead.process().settle()
        for pattern in _DROPPED:
            for path in dead.directory.glob(pattern):
                path.unlink(missing_ok=True)
    return found


def _known() -> list[GuestRecord]:
    root = private_directory()
    directories = sorted(path for path in root.iterdir() if path.is_dir())
    found = {directory: _load(directory) for directory in directories}
    strange = [directory for directory, known in found.items() if known is None]
    if strange:
        with suppress(TargetBusy), starting(root, 0):  # else one is just being started
            for directory in strange:
                if _load(directory) is None:
                    clean(directory.name)
    return [known for known in found.values() if known is not None]


def record(name: str, *, dead: bool = False) -> GuestRecord:
    """Return a running guest's record, or with ``dead`` one's that has died.

    Raises `UnknownGuest`, `TargetLost` with QEMU's last words when it has died, or is out of reach.
    """
    directory = private_directory() / name
    if not NAME.fullmatch(name) or not directory.is_dir():
        raise _unknown(name, dead)
    found = _load(directory)
    if found is None:
        with starting(directory.parent):  # a guest just being started is recorded when this is held
            found = _load(directory)
    if found is None:
        raise UnknownGuest(f"guest '{name}' never came up")
    if found.damage and not dead:
        raise TargetLost(
            f"{found.damage}, but its QEMU runs (process {found.pid}); 'kgdbpatch shutdown {name}' ends it"
        )
    if not dead and found.elsewhere():
        raise TargetLost(f"guest '{name}' runs in another PID namespace (a container?): use it from there")
    if not dead and not found.alive():
        raise found.lost()
    return found


def _unknown(name: str, dead: bool) -> UnknownGuest:
    """Return the error for a name that no guest has; ``dead``: that of one that has died would do."""
    alive = [guest.name for guest in guests()]
    names = ", ".join(f"'{one}'" for one in alive) or "none"
    near = get_close_matches(name, [*alive, *(guest.name for guest in ended())] if dead else alive)
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    return UnknownGuest(f"no guest '{name}' is running (running: {names}){hint}")


def last_words(directory: Path) -> str | None:
    """Return the end of what QEMU printed, or None when the guest's directory is gone."""
    try:
        return (directory / "qemu.stderr").read_text(errors="replace").strip()[-_TAIL:]
    except OSError:
        return None
