"""Build a Linux guest for an e500v2: the same user space, another machine's kernel."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from kgdbpatch.guests import linux_build
from kgdbpatch.guests.sources import guest_sources

__all__ = ["build", "build_initramfs", "built", "configuration"]

_CPU = "8548"  # an e500v2; GCC has the assembler write what Book E has in place of `mftb`


def configuration() -> Path:
    """Return the file of options that are otherwise than the bundled guest's."""
    return guest_sources("linux") / "e500" / "config"


def build(progress: Callable[[str], None]) -> Path:
    """Build kernel and initramfs when the cache has none and return the kernel's path."""
    build_initramfs(progress)
    return linux_build.build_kernel(progress, [configuration()])


def build_initramfs(progress: Callable[[str], None]) -> Path:
    """Return the path of the initramfs, built when not cached."""
    return linux_build.build_initramfs(progress, cpu=_CPU)


def built() -> Path | None:
    """Return the cached kernel's path, or None when it is not built."""
    return linux_build.cached_kernel(configuration())
