"""Build the bundled Linux guest: Debian's kernel, configured as distributions do, and modules of ours."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from kgdbpatch.guests import linux_build
from kgdbpatch.guests.sources import guest_sources

__all__ = ["build", "build_initramfs", "built"]


def _modules() -> list[Path]:
    return sorted((guest_sources("linux") / "modules").glob("*.c"))


def build(progress: Callable[[str], None]) -> Path:
    """Build kernel, modules and initramfs when the cache has none and return the kernel's path."""
    kernel = linux_build.build_kernel(progress, modules=_modules())
    build_initramfs(progress)
    return kernel


def build_initramfs(progress: Callable[[str], None]) -> Path:
    """Return the path of the initramfs, with the modules in ``/lib``, built when not cached."""
    directory = linux_build.build_kernel(progress, modules=_modules()).parent
    return linux_build.build_initramfs(progress, [directory / f"{one.stem}.ko" for one in _modules()])


def built() -> Path | None:
    """Return the cached kernel's path, or None when it is not built."""
    return linux_build.cached_kernel(*_modules())
