"""Keep on disk what took time to find out: entries by room and key, whole or absent, the least used pruned.

A key names everything that decides the entry; a damaged one is as good as absent.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
import time
from collections.abc import Collection, Iterator
from pathlib import Path

__all__ = ["LIMIT", "directory", "least_used", "load", "save"]

LIMIT = 512 << 20  # bytes a room: some 40 analyses of Linux
_DIGEST = 32
_NEW = ".new-"  # what entries are called while they are written
_ABANDONED = 3600.0  # seconds after which whoever wrote one must have died


def directory() -> Path:
    """Return the cache's: ``$KGDBPATCH_CACHE``, else XDG's; `RuntimeError` where there is no home."""
    if named := os.environ.get("KGDBPATCH_CACHE"):
        return Path(named)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "kgdbpatch"


def _digest(body: bytes) -> bytes:
    """Return what tells a damaged body; of the strong digests this one is the fastest without SHA units."""
    return hashlib.blake2b(body, digest_size=_DIGEST).digest()


def load(room: str, key: str) -> bytes | None:
    """Return what an entry holds, None where there is none or it is damaged."""
    try:
        path = directory() / room / key
        with open(path, "rb", buffering=0) as file:  # some bodies are large: not copied
            head, body = file.read(_DIGEST), file.readall()
    except (OSError, RuntimeError):
        return None
    if _digest(body) != head:
        return None
    with contextlib.suppress(OSError):
        os.utime(path)  # it is used: others are pruned first
    return body


def save(room: str, key: str, body: bytes) -> None:
    """Keep an entry; where there is no room for that, do nothing."""
    with contextlib.suppress(OSError, RuntimeError):
        place = directory() / room
        place.mkdir(parents=True, exist_ok=True)
        handle, scratch = tempfile.mkstemp(dir=place, prefix=_NEW)
        try:
            with open(handle, "wb") as file:
                file.write(_digest(body) + body)
            Path(scratch).replace(place / key)
        except BaseException:
            Path(scratch).unlink(missing_ok=True)
            raise
        _prune(place, key)


def _prune(place: Path, newest: str) -> None:
    """Remove what nobody will finish, then the entries used longest ago, until the rest is within `LIMIT`."""
    held: list[tuple[float, int, Path]] = []
    for entry in os.scandir(place):
        with contextlib.suppress(OSError):  # another client prunes, too
            status = entry.stat(follow_symlinks=False)
            if not entry.name.startswith(_NEW):
                held.append((status.st_mtime, status.st_size, Path(entry.path)))
            elif status.st_mtime < time.time() - _ABANDONED:
                os.unlink(entry.path)
    for path in least_used(held, LIMIT, place / newest):
        with contextlib.suppress(OSError):
            path.unlink()


def least_used(held: Collection[tuple[float, int, Path]], limit: int, newest: Path) -> Iterator[Path]:
    """Yield what was used longest ago of (time, bytes, path), until the rest is within ``limit`` bytes."""
    total = sum(size for _, size, _ in held)
    for _, size, path in sorted(held):
        if total > limit and path != newest:
            yield path
            total -= size
