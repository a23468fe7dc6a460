"""The runtime directory: one sub-directory per guest, found by every command of this user."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from kgdbpatch.errors import Misuse, TargetLost, UnknownGuest
from kgdbpatch.target.process import Process, boot_id, start_time

__all__ = [
    "GuestRecord",
    "checked_directory",
    "clean",
    "forget",
    "guests",
    "lost",
    "private_directory",
    "record",
    "starting",
]

_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,63}")
_SOCKETS = ("qmp.sock", "gdb.sock", "console.sock")
_SOCKET_PATH_LIMIT = 107  # bytes, unix(7)
_TAIL = 2000  # characters of QEMU's stderr that an error quotes


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

    @property
    def directory(self) -> Path:
        """The guest's private directory."""
        return Path(self.path)

    def alive(self) -> bool:
        """Tell whether the guest's QEMU still runs."""
        return self.host_boot == boot_id() and start_time(self.pid) == self.started

    def process(self) -> Process:
        """Return the guest's QEMU process."""
        return Process(self.pid, self.started)

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
    if not _NAME.fullmatch(name):
        raise Misuse(f"guest name '{name}' is not of the form [A-Za-z0-9_.-]{{1,64}} (no leading '.')")
    directory = private_directory() / name
    longest = max((len(os.fsencode(directory / socket)) for socket in _SOCKETS), default=0)
    if longest > _SOCKET_PATH_LIMIT:
        raise Misuse(
            f"the path of the sockets in {directory} would have {longest} bytes, the system's limit is "
            f"{_SOCKET_PATH_LIMIT}; set KGDBPATCH_RUNTIME to a shorter one"
        )
    return directory


@contextmanager
def starting(root: Path) -> Iterator[None]:
    """Hold the lock under which guests' directories in ``root`` are made and removed."""
    descriptor = os.open(root / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _load(directory: Path) -> GuestRecord | None:
    path = directory / "guest.json"
    try:
        return GuestRecord(**json.loads(path.read_text()))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, TypeError) as error:
        process = _unrecorded(directory)
        if process is None:
            return None
        raise TargetLost(
            f"{path} is damaged or of another version ({error}), but its QEMU runs: "
            f"end process {process.pid} by hand"
        ) from error


def _unrecorded(directory: Path) -> Process | None:
    """Return the running QEMU of a guest that is not (properly) written down, or None."""
    try:
        pid = int((directory / "pid").read_text())
        words = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (OSError, ValueError):
        return None
    started = start_time(pid)
    ours = started is not None and os.fsencode(directory / "pid") in words
    return Process(pid, started) if started is not None and ours else None


def clean(name: str) -> None:
    """Remove what a dead guest left; the caller holds `starting`. Raises `Misuse` when it is alive."""
    directory = private_directory() / name
    found = _load(directory)
    if found is not None and found.alive():
        raise Misuse(f"guest '{name}' is running (pid {found.pid}); shut it down or choose another name")
    orphan = _unrecorded(directory) if found is None else None
    if orphan is not None:  # its client died between starting it and writing it down
        orphan.kill()
        orphan.wait(5)
    shutil.rmtree(directory, ignore_errors=True)


def forget(known: GuestRecord) -> None:
    """Remove the directory of an ended guest, unless another one has its name by now."""
    if not known.directory.exists():
        return
    with starting(known.directory.parent):
        found = _load(known.directory)
        if found is None or (found.pid, found.started) == (known.pid, known.started):
            shutil.rmtree(known.directory, ignore_errors=True)


def guests() -> list[GuestRecord]:
    """Return the running guests, sorted by name; leftovers of dead ones are removed."""
    alive, dead = [], []
    for directory in sorted(path for path in private_directory().iterdir() if path.is_dir()):
        found = _load(directory)
        if found is not None and found.alive():
            alive.append(found)
        else:
            dead.append(directory.name)
    if dead:
        with starting(private_directory()):
            for name in dead:
                with suppress(Misuse):  # it was just being started
                    clean(name)
    return alive


def record(name: str) -> GuestRecord:
    """Return a running guest's record.

    Raises `UnknownGuest` when there is none, `TargetLost` with QEMU's last words when it has died.
    """
    directory = private_directory() / name
    if not _NAME.fullmatch(name) or not directory.is_dir():
        names = ", ".join(f"'{guest.name}'" for guest in guests()) or "none"
        raise UnknownGuest(f"no guest '{name}' is running (running: {names})")
    with starting(directory.parent):  # a guest just being started is recorded when this is held
        found = _load(directory)
    if found is None:
        raise UnknownGuest(f"guest '{name}' never came up")
    if not found.alive():
        raise lost(found.name, found.process(), directory)
    return found


def lost(name: str, process: Process, directory: Path) -> TargetLost:
    """Return the error that says how QEMU ended, in its own words."""
    process.wait(0)
    try:
        words = (directory / "qemu.stderr").read_text(errors="replace").strip()[-_TAIL:]
    except OSError:
        return TargetLost(f"guest '{name}' is gone: it was shut down")
    return TargetLost(
        f"guest '{name}' is gone: QEMU ended ({process.exit_text()}); its last words: {words or 'none'}"
    )
