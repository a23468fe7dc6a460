"""The runtime directory: one private sub-directory per running guest."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kgdbpatch.errors import Misuse, UnknownGuest

__all__ = ["GuestRecord", "directory_of", "discard", "guests", "process_start", "record", "save"]

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_LONGEST_SOCKET = 107  # bytes of sun_path, less its NUL


@dataclass(frozen=True, slots=True)
class GuestRecord:
    """What is remembered of a guest: QEMU's process and what the booter wanted to keep."""

    name: str
    directory: Path
    pid: int
    started: int  # the process's start time, clock ticks since the host booted
    ram: Path
    ram_size: int
    metadata: Mapping[str, Any]

    @property
    def alive(self) -> bool:
        """Whether that very process still runs."""
        return process_start(self.pid) == self.started


def process_start(pid: int) -> int | None:
    """Return a live process's start time (field 22 of proc(5) stat), None when it is dead."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else int(fields[19])


def _root() -> Path:
    if chosen := os.environ.get("KGDBPATCH_RUNTIME"):
        root = Path(chosen)
    elif session := os.environ.get("XDG_RUNTIME_DIR"):
        root = Path(session) / "kgdbpatch"
    else:
        root = Path(f"/tmp/kgdbpatch-{os.getuid()}")
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = root.lstat()
    if status.st_uid != os.getuid() or not root.is_dir() or root.is_symlink():
        raise Misuse(f"{root} belongs to somebody else; set KGDBPATCH_RUNTIME to a directory of yours")
    root.chmod(0o700)
    return root


def directory_of(name: str) -> Path:
    """Return the directory of the guest called ``name``; raise `Misuse` for an impossible name."""
    if not _NAME.fullmatch(name) or name in (".", ".."):
        raise Misuse(f"'{name}' is no name for a guest: letters, digits, '_', '.', '-', at most 64")
    directory = _root() / name
    if len(os.fsencode(directory / "console.sock")) > _LONGEST_SOCKET:
        raise Misuse(
            f"{directory} is too long a path for a UNIX socket; set KGDBPATCH_RUNTIME to a shorter one"
        )
    return directory


def save(kept: GuestRecord) -> None:
    """Write a guest's record, whole or not at all."""
    fields = {
        "pid": kept.pid,
        "started": kept.started,
        "ram": str(kept.ram),
        "ram_size": kept.ram_size,
        "metadata": dict(kept.metadata),
    }
    scratch = kept.directory / "guest.json.new"
    scratch.write_text(json.dumps(fields))
    scratch.replace(kept.directory / "guest.json")


def _load(directory: Path) -> GuestRecord | None:
    try:
        fields = json.loads((directory / "guest.json").read_text())
    except (FileNotFoundError, NotADirectoryError):
        return None
    return GuestRecord(
        directory.name,
        directory,
        fields["pid"],
        fields["started"],
        Path(fields["ram"]),
        fields["ram_size"],
        fields["metadata"],
    )


def discard(kept: GuestRecord) -> None:
    """Remove what a dead guest left."""
    kept.ram.unlink(missing_ok=True)
    shutil.rmtree(kept.directory, ignore_errors=True)


def guests() -> list[GuestRecord]:
    """Return the running guests by name; what dead ones left is removed."""
    found = []
    for directory in sorted(_root().iterdir()):
        kept = _load(directory)
        if kept is None:
            continue
        if kept.alive:
            found.append(kept)
        else:
            discard(kept)
    return found


def record(name: str) -> GuestRecord:
    """Return the record of a guest, running or just died; raise `UnknownGuest`."""
    kept = _load(directory_of(name))
    if kept is None:
        running = ", ".join(guest.name for guest in guests()) or "none"
        raise UnknownGuest(
            f"no guest '{name}' is running (running: {running}); boot one with 'kgdbpatch boot'"
        )
    return kept
