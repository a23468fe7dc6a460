"""Write a cpio archive of the "newc" kind, as Linux unpacks it at boot; needs no privilege."""

from __future__ import annotations

import stat
from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["Entry", "device", "directory", "file", "newc"]


@dataclass(frozen=True, slots=True)
class Entry:
    """One member: ``path`` without a leading slash, ``mode`` with its type bits, device numbers."""

    path: str
    mode: int
    data: bytes = b""
    major: int = 0
    minor: int = 0


def directory(path: str, permissions: int = 0o755) -> Entry:
    """Return a directory."""
    return Entry(path, stat.S_IFDIR | permissions)


def file(path: str, data: bytes, permissions: int = 0o644) -> Entry:
    """Return a regular file."""
    return Entry(path, stat.S_IFREG | permissions, data)


def device(path: str, major: int, minor: int, permissions: int = 0o600) -> Entry:
    """Return a character device."""
    return Entry(path, stat.S_IFCHR | permissions, major=major, minor=minor)


def newc(entries: Iterable[Entry]) -> bytes:
    """Return the archive of ``entries``, owned by root, with times of zero: same input, same bytes."""
    out = bytearray()
    for inode, entry in enumerate([*entries, Entry("TRAILER!!!", 0)], start=1):
        name = entry.path.encode() + b"\0"
        links = 2 if stat.S_ISDIR(entry.mode) else 1
        # inode mode uid gid links mtime size, device of the archive (2), device itself (2), name's size, sum
        numbers = (inode, entry.mode, 0, 0, links, 0, len(entry.data), 0, 0, entry.major, entry.minor)
        out += b"070701" + b"".join(b"%08X" % n for n in (*numbers, len(name), 0)) + name
        out += bytes(-len(out) % 4) + entry.data
        out += bytes(-len(out) % 4)
    return bytes(out + bytes(-len(out) % 512))
