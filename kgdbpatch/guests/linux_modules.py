"""Build a Linux guest that is configured as distributions do, and two modules that come and go in it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from kgdbpatch.guests import linux_build
from kgdbpatch.guests.sources import guest_sources

__all__ = ["build", "build_initramfs", "built"]


def _parts() -> tuple[Path, list[Path]]:
    sources = guest_sources("linux") / "modules"
    return sources / "config", sorted(sources.glob("*.c"))


def build(progress: Callable[[str], None]) -> Path:
    """Build kernel, modules and initramfs when the cache has none and return the kernel's path."""
    changed, modules = _parts()
    kernel = linux_build.build_kernel(progress, [changed], modules)
    build_initramfs(progress)
    return kernel


def build_initramfs(progress: Callable[[str], None]) -> Path:
    """Return the path of the initramfs, with the modules in ``/lib``, built when not cached."""
    changed, modules = _parts()
    directory = linux_build.build_kernel(progress, [changed], modules).parent
    return linux_build.build_initramfs(progress, [directory / f"{module.stem}.ko" for module in modules])


def built() -> Path | None:
    """Return the cached kernel's path, or None when it is not built."""
    changed, modules = _parts()
    return linux_build.cached_kernel(changed, *modules)
