"""Who else talks to a server of QEMU's: it serves one client, and lets others wait without a word."""

from __future__ import annotations

import os
import select
import socket
import struct
import time
from contextlib import suppress
from pathlib import Path

from kgdbpatch.errors import TargetBusy

__all__ = ["peer_of", "wait_for_turn"]

# sock_diag(7): a dump of all connected UNIX sockets with their names and peers.
_SOCK_DIAG, _BY_FAMILY, _DUMP, _DONE, _ERROR = 4, 20, 0x301, 3, 2
_ESTABLISHED, _SHOW_NAME, _SHOW_PEER = 1, 1, 4
_NAME, _PEER = 0, 2  # attributes
_HEADER, _REQUEST, _MESSAGE = struct.Struct("=IHHII"), struct.Struct("=BBHIIIII"), struct.Struct("=BBBBIII")
_ATTRIBUTE = struct.Struct("=HH")
_LOOK = 0.05  # seconds between two looks: nobody tells when a connection of others ends


def _peers(path: Path) -> list[int]:
    """Return the inodes of the sockets connected to the server at ``path``; none where that is not told."""
    request = _REQUEST.pack(socket.AF_UNIX, 0, 0, 1 << _ESTABLISHED, 0, _SHOW_NAME | _SHOW_PEER, 0, 0)
    header = _HEADER.pack(_HEADER.size + len(request), _BY_FAMILY, _DUMP, 1, 0)
    found: list[int] = []
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
                    found += _peer(data[_HEADER.size : size], os.fsencode(path))
                    data = data[size + 3 & ~3 :]
    except (OSError, struct.error):
        return []


def _peer(message: bytes, path: bytes) -> list[int]:
    """Return the inode of the peer of a message's socket, if that socket's name is ``path``."""
    attributes: dict[int, bytes] = {}
    at = _MESSAGE.size
    while at + _ATTRIBUTE.size <= len(message):
        size, kind = _ATTRIBUTE.unpack_from(message, at)
        if size < _ATTRIBUTE.size:
            break
        attributes[kind] = message[at + _ATTRIBUTE.size : at + size]
        at += size + 3 & ~3
    if attributes.get(_NAME, b"").rstrip(b"\0") != path or _PEER not in attributes:
        return []
    (inode,) = struct.unpack("=I", attributes[_PEER])
    return [inode] if inode else []


def peer_of(path: Path, *, but: int = 0) -> tuple[int, str] | None:
    """Return process id and command of a process that is connected to the server at ``path``, or None.

    Process ``but`` does not count. Only processes that this user may look into are found.
    """
    wanted = {f"socket:[{inode}]" for inode in _peers(path)}
    if not wanted:
        return None
    for process in Path("/proc").glob("[0-9]*"):
        if process.name == str(but):
            continue
        with suppress(OSError):
            if any(os.readlink(entry) in wanted for entry in os.scandir(process / "fd")):
                words = (process / "cmdline").read_bytes().replace(b"\0", b" ").split()
                return int(process.name), os.fsdecode(b" ".join(words))
    return None


def wait_for_turn(path: Path, busy: str, wait: float) -> None:
    """Wait until nobody is connected to the server at ``path``.

    Raises `TargetBusy` (``busy`` and who it is) after ``wait`` seconds.
    """
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
