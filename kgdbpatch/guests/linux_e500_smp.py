"""Build the Linux guest for several e500v2."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from kgdbpatch.guests import linux_build
from kgdbpatch.guests.linux_e500 import build_initramfs, configuration

__all__ = ["build", "build_initramfs", "built"]


def _changed() -> list[Path]:
    return [configuration(), configuration().with_name("smp")]


def build(progress: Callable[[str], None]) -> Path:
    """Build kernel and initramfs when the cache has none and return the kernel's path."""
    build_initramfs(progress)
    return linux_build.build_kernel(progress, _changed())


def built() -> Path | None:
    """Return the cached kernel's path, or None when it is not built."""
    return linux_build.cached_kernel(*_changed())
