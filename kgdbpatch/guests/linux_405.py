"""Build Linux 6.1, the last in Debian that has the 405, for a 405EP: the board Hotfoot, by its wrapper."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from kgdbpatch.errors import BuildFailed
from kgdbpatch.guests import linux_build
from kgdbpatch.guests.linux_build import build_initramfs
from kgdbpatch.guests.sources import guest_sources

__all__ = ["build", "build_initramfs", "built"]

_VERSION = "6.1"
_DEFCONFIG = "40x/walnut_defconfig"
_BOOT = (
    "cuImage.hotfoot"  # QEMU gives the kernel what U-Boot would, and no device tree: that is in the wrapper
)


def _changed() -> Path:
    return guest_sources("linux") / "ppc405" / "config"


def build(progress: Callable[[str], None]) -> Path:
    """Build kernel and initramfs when the cache has none and return the kernel's path."""
    if built() is None and shutil.which("mkimage") is None:
        raise BuildFailed("the kernel's build for this board runs mkimage: install u-boot-tools")
    build_initramfs(progress)
    return linux_build.build_kernel(
        progress, [_changed()], defconfig=_DEFCONFIG, version=_VERSION, boot=_BOOT
    )


def built() -> Path | None:
    """Return the cached kernel's path, or None when it is not built."""
    return linux_build.cached_kernel(_changed(), defconfig=_DEFCONFIG, version=_VERSION, boot=_BOOT)
