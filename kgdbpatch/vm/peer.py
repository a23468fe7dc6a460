"""Who else talks to a server of QEMU's: it serves one client, and lets others wait without a word."""

from __future__ import annotations

import os
import select
import socket
import struct
import sys
import time
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path

from kgdbpatch.errors import TargetBusy

__all__ = ["connected", "holders", "listeners", "peer_of", "users_of", "wait_for_turn"]

# sock_diag(7): a dump of all UNIX sockets in some states, with names, places in the file system and peers.
_SOCK_DIAG, _BY_FAMILY, _DUMP, _DONE, _ERROR = 4, 20, 0x301, 3, 2
_ESTABLISHED, _LISTEN = 1, 10  # states, of TCP's too
_SHOW_NAME, _SHOW_VFS, _SHOW_PEER = 1, 2, 4
_NAME, _VFS, _PEER = 0, 1, 2  # attributes
_HEADER, _REQUEST, _MESSAGE = struct.Struct("=IHHII"), struct.Struct("=BBHIIIII"), struct.Struct("=BBBBIII")
_ATTRIBUTE, _PLACE = struct.Struct("=HH"), struct.Struct("=II")
_LOOK = 0.05  # seconds between two looks: nobody tells when a connection of others ends
_TABLES = ("/proc/net/tcp", "/proc/net/tcp6")


def _sockets(state: int) -> list[tuple[int, dict[int, bytes]]]:
    """Return (inode, attributes) of all UNIX sockets in a state; none where that is not told."""
    show = _SHOW_NAME | _SHOW_VFS | _SHOW_PEER
    request = _REQUEST.pack(socket.AF_UNIX, 0, 0, 1 << state, 0, show, 0, 0)
    header = _HEADER.pack(_HEADER.size + len(request), _BY_FAMILY, _DUMP, 1, 0)
    found: list[tuple[int, dict[int, bytes]]] = []
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _SOCK_DIAG) as kernel:
            kernel.settimeout(1.0)
            kernel.sendto(header + request, (0, 0))
            while True:
                data = kernel.recv(1 << 18)
                while data:
                    size, kind, *_ = _HEADER.unpack_from(data)
                    if kind in (_DONE, _ERROR):
                        return found
                    found.append(_told(data[_HEADER.size : size]))
                    data = data[size + 3 & ~3 :]
    except (OSError, struct.error):
        return []


def _told(message: bytes) -> tuple[int, dict[int, bytes]]:
    attributes: dict[int, bytes] = {}
    at = _MESSAGE.size
    while at + _ATTRIBUTE.size <= len(message):
        size, kind = _ATTRIBUTE.unpack_from(message, at)
        if size < _ATTRIBUTE.size:
            break
        attributes[kind] = message[at + _ATTRIBUTE.size : at + size]
        at += size + 3 & ~3
    return _MESSAGE.unpack_from(message)[4], attributes


def _bound_to(path: Path, state: int) -> list[tuple[int, dict[int, bytes]]]:
    """Return (inode, attributes) of the sockets that were bound to ``path``, by whatever name of it."""
    name, place = os.fsencode(path), b""
    with suppress(OSError):
        known = path.stat()
        device = os.major(known.st_dev) << 20 | os.minor(known.st_dev)  # as the kernel itself has it
        place = _PLACE.pack(known.st_ino & 0xFFFF_FFFF, device)
    return [
        (inode, attributes)
        for inode, attributes in _sockets(state)
        if attributes.get(_NAME, b"").rstrip(b"\0") == name or place == attributes.get(_VFS)
    ]


def _peers(path: Path) -> list[int]:
    """Return the inodes of the sockets connected to the server at ``path``; none where that is not told."""
    if not path.is_absolute():
        return [inode for _, other, inode in _tcp(_ESTABLISHED) if other == _port(path) and inode]
    told = (attributes.get(_PEER, b"") for _, attributes in _bound_to(path, _ESTABLISHED))
    return [inode for peer in told if (inode := int.from_bytes(peer, sys.byteorder))]


def _tcp(state: int) -> list[tuple[int, int, int]]:
    """Return (port, other end's port, inode) of all TCP sockets in a state (proc(5))."""
    rows: list[tuple[int, int, int]] = []
    for table in _TABLES:
        with suppress(OSError):
            for row in Path(table).read_text().splitlines()[1:]:
                _, ours, theirs, status, *more = row.split()
                if int(status, 16) == state:
                    port, other = (int(end.rpartition(":")[2], 16) for end in (ours, theirs))
                    rows.append((port, other, int(more[5])))
    return rows


def _port(server: Path) -> int:
    """Return the port of ``HOST:PORT``."""
    return int(str(server).rpartition(":")[2])


def listeners(path: Path) -> list[int]:
    """Return the inodes of this host's sockets that listen at ``path``, or ``HOST:PORT``."""
    if path.is_absolute():
        return [inode for inode, _ in _bound_to(path, _LISTEN)]
    return [inode for ours, _, inode in _tcp(_LISTEN) if ours == _port(path) and inode]


def peer_of(path: Path, *, but: int = 0) -> tuple[int, str] | None:
    """Return (pid, command) of a process connected to ``path``, not ``but``, that we may look into."""
    return next(iter(holders(_peers(path), but=but)), None)


def connected(path: Path) -> bool:
    """Tell whether anybody is connected to ``path``, or ``HOST:PORT``, whoever it is."""
    return bool(_peers(path))


def holders(inodes: Collection[int], *, but: int = 0) -> Iterator[tuple[int, str]]:
    """Yield process id and command of the processes that have one of some sockets open; as `peer_of`."""
    return _having({f"socket:[{inode}]" for inode in inodes}, but)


def users_of(path: Path) -> Iterator[tuple[int, str]]:
    """Yield process id and command of the processes that have a file open (its real path); as `peer_of`."""
    return _having({str(path)}, 0)


def _having(wanted: Collection[str], but: int) -> Iterator[tuple[int, str]]:
    """Yield the processes with a descriptor of one of these names (proc(5), ``fd``)."""
    for process in Path("/proc").glob("[0-9]*") if wanted else ():
        if process.name == str(but):
            continue
        with suppress(OSError):
            if any(os.readlink(entry) in wanted for entry in os.scandir(process / "fd")):
                words = (process / "cmdline").read_bytes().replace(b"\0", b" ").split()
                yield int(process.name), os.fsdecode(b" ".join(words))


def wait_for_turn(path: Path, busy: str, wait: float) -> None:
    """Wait until nobody is connected to ``path``; raise `TargetBusy`, saying who, after ``wait`` seconds."""
    end = time.monotonic() + wait
    while (found := peer_of(path)) is not None:
        pid, command = found
        left = end - time.monotonic()
        if left <= 0:
            raise TargetBusy(f"{busy}, process {pid} ({command[:100]}); waited {wait:g} s")
        try:
            process = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        try:
            select.select([process], [], [], min(_LOOK, left))
        finally:
            os.close(process)
