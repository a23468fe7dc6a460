"""Where built images are kept: one directory per content key, made once, never changed."""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

from kgdbpatch.errors import BuildFailed
from kgdbpatch.store import directory as cache_directory

__all__ = ["cache_directory", "content_key", "guest_sources", "made_once"]

_PACKAGE = Path(__file__).resolve().parent.parent


def guest_sources(name: str) -> Path:
    """Return the directory of a guest's sources: the installed package's, else the checkout's."""
    for parent in (_PACKAGE / "_data" / "images", _PACKAGE.parent / "images"):
        if (parent / name).is_dir():
            return parent / name
    raise BuildFailed(f"the sources of the guest '{name}' are not installed")


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

    ``make(result, scratch)`` fills the directory ``result``, which appears under its name only
    when complete; ``scratch`` is a directory with room for ``scratch_bytes`` that is removed
    at the end, also on failure. A second builder of the same entry waits for the first.
    """
    root = cache_directory()
    entry = root / name
    if entry.is_dir():
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
    return entry


def _roomy(cache: Path, size: int) -> Path:
    """Return a directory with ``size`` bytes free: the cache's, else the temporary directory."""
    candidates = [cache, Path(tempfile.gettempdir())]
    for directory in candidates:
        if shutil.disk_usage(directory).free >= size:
            return directory
    tried = " or ".join(map(str, candidates))
    raise BuildFailed(f"building needs {size >> 20} MiB, which neither {tried} has free")
