"""What was built: one directory per content key, made once, never changed, the least used pruned."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

from kgdbpatch.errors import BuildFailed
from kgdbpatch.store.entries import directory, least_used

__all__ = ["LIMIT", "content_key", "made_once"]

LIMIT = 2 << 30  # bytes of all that was built: some 200 kernels
_BUILT = re.compile(r"[\w.-]+-[0-9a-f]{20}")  # what `made_once` is asked for ends with a content key


def content_key(parts: Iterable[str | bytes | Path]) -> str:
    """Return a key of texts and of files' contents (with their names), in the order given."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, Path):
            data = part.name.encode() + b"\0" + part.read_bytes()
        else:
            data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "big") + data)
    return digest.hexdigest()[:20]


def made_once(
    name: str,
    make: Callable[[Path, Path], None],
    progress: Callable[[str], None],
    scratch_bytes: int = 64 << 20,
) -> Path:
    """Return the cache entry ``name``, a directory; when it is missing, let one builder make it.

    ``make(result, scratch)`` fills ``result``, which appears under its name only when complete; ``scratch``
    has room for ``scratch_bytes``, and goes at the end. A second builder waits for the first.
    """
    root = directory()
    entry = root / name
    if entry.is_dir():
        with contextlib.suppress(OSError):
            os.utime(entry)  # it is used: others are pruned first
        return entry
    root.mkdir(parents=True, exist_ok=True)
    with (root / f".{name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress(f"{name}: waiting for another build of it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        if entry.is_dir():
            return entry
        prefix = f".{name}.building-"
        for orphan in root.glob(f"{prefix}*"):  # of a builder that was killed: we hold its lock
            shutil.rmtree(orphan, ignore_errors=True)
        with (
            tempfile.TemporaryDirectory(prefix=prefix, dir=root) as new,
            tempfile.TemporaryDirectory(prefix=prefix, dir=_roomy(root, scratch_bytes)) as scratch,
        ):
            result = Path(new) / name
            result.mkdir()
            make(result, Path(scratch))
            result.rename(entry)
        _prune(root, entry)
    return entry


def _prune(root: Path, newest: Path) -> None:
    """Remove the builds used longest ago until the rest is within `LIMIT`; the caller holds a lock."""
    held: list[tuple[float, int, Path]] = []
    for entry in root.iterdir():
        if _BUILT.fullmatch(entry.name) and entry.is_dir():
            size = sum(path.stat().st_size for path in entry.rglob("*") if path.is_file())
            held.append((entry.stat().st_mtime, size, entry))
    for entry in least_used(held, LIMIT, newest):
        shutil.rmtree(entry, ignore_errors=True)


def _roomy(cache: Path, size: int) -> Path:
    """Return a directory with ``size`` bytes free: the cache's, else the temporary directory."""
    candidates = [cache, Path(tempfile.gettempdir())]
    for place in candidates:
        if shutil.disk_usage(place).free >= size:
            return place
    tried = " or ".join(map(str, candidates))
    raise BuildFailed(f"building needs {size >> 20} MiB, which neither {tried} has free")
