"""Build the bundled Darwin/PPC-style kernel from its sources, with the cross compiler."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

from kgdbpatch import store
from kgdbpatch.errors import BuildFailed
from kgdbpatch.guests.sources import guest_sources, output
from kgdbpatch.personality.base import MIB

__all__ = ["build", "build_tree", "built"]

_TOOLS = ("powerpc-linux-gnu-gcc", "powerpc-linux-gnu-as", "powerpc-linux-gnu-ld")
_SOURCES = ("**/*.[chS]", "**/*.ld", "*.py", "../macho.py", "../macho_object.py")
_SCRATCH = 8 * MIB
_KERNEL = "mach_kernel"


def build(progress: Callable[[str], None]) -> Path:
    """Build the kernel when the cache has none for these sources and this compiler.

    Where the sources are gone, the kernel that was built last serves.
    """
    if not _has_sources() and (last := _last_built()) is not None:
        return last

    def make(result: Path, scratch: Path) -> None:
        progress("building the darwin guest's kernel")
        output(sys.executable, str(guest_sources("darwin") / "build.py"), str(result))

    return store.made_once(_entry(), make, progress, _SCRATCH) / _KERNEL


def build_tree(place: Path, progress: Callable[[str], None]) -> Path:
    """Put the kernel's sources in the new folder ``place``, its C files compiled; return that."""
    progress("compiling the darwin guest's kernel")
    output(sys.executable, str(guest_sources("darwin") / "build.py"), "--tree", str(place))
    return place


def built() -> Path | None:
    """Return the cached kernel's path, or None when it is not built."""
    if not _has_sources():
        return _last_built()
    path = store.directory() / _entry() / _KERNEL
    return path if path.exists() else None


@lru_cache(maxsize=1)
def _toolchain(path: str | None) -> str:
    """Return the versions of the tools that are found by ``path``, the environment's PATH."""
    return "".join(output(tool, "--version") for tool in _TOOLS)


def _has_sources() -> bool:
    try:
        guest_sources("darwin")
    except BuildFailed:
        return False
    return True


def _last_built() -> Path | None:
    """Return the newest kernel in the cache, or None."""
    built = store.directory().glob(f"darwin-*/{_KERNEL}")
    return max(built, key=lambda path: path.stat().st_mtime, default=None)


def _entry() -> str:
    """Return the name of the kernel's cache entry: a hash of its sources and its tools."""
    root = guest_sources("darwin")
    files = sorted({path.resolve() for pattern in _SOURCES for path in root.glob(pattern)})
    named = [part for path in files for part in (str(path.relative_to(root.resolve().parent)), path)]
    return f"darwin-{store.content_key([_toolchain(os.environ.get('PATH')), *named])}"
