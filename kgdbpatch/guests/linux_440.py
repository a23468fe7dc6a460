"""Build Linux 6.12 for AMCC's board of a 440EP: its source's own configuration of that board."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from kgdbpatch.guests import linux_build
from kgdbpatch.guests.linux_build import build_initramfs
from kgdbpatch.guests.sources import guest_sources

__all__ = ["build", "build_initramfs", "built"]

_VERSION = "6.12"
_DEFCONFIG = "44x/bamboo_defconfig"


def _changed() -> Path:
    return guest_sources("linux") / "ppc440" / "config"


def build(progress: Callable[[str], None]) -> Path:
    """Build kernel and initramfs when the cache has none and return the kernel's path."""
    build_initramfs(progress)
    return linux_build.build_kernel(progress, [_changed()], defconfig=_DEFCONFIG, version=_VERSION)


def built() -> Path | None:
    """Return the cached kernel's path, or None when it is not built."""
    return linux_build.cached_kernel(_changed(), defconfig=_DEFCONFIG, version=_VERSION)
