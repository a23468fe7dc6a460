"""Build Linux 6.12 for e500v2, one or several: configured as the bundled guest, for another machine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from kgdbpatch.guests import linux_build
from kgdbpatch.guests.sources import guest_sources

__all__ = ["build", "build_initramfs", "built"]

_CPU = "8548"  # an e500v2; GCC has the assembler write what Book E has in place of `mftb`
_VERSION = "6.12"


def _parts() -> tuple[list[Path], list[Path]]:
    sources = guest_sources("linux")
    return [sources / "e500" / "config"], sorted((sources / "modules").glob("*.c"))


def _kernel(progress: Callable[[str], None]) -> Path:
    return linux_build.build_kernel(progress, *_parts(), version=_VERSION)


def build(progress: Callable[[str], None]) -> Path:
    """Build kernel, modules and initramfs when the cache has none and return the kernel's path."""
    kernel = _kernel(progress)
    build_initramfs(progress)
    return kernel


def build_initramfs(progress: Callable[[str], None]) -> Path:
    """Return the path of the initramfs, with the modules in ``/lib``, built when not cached."""
    directory = _kernel(progress).parent
    modules = [directory / f"{source.stem}.ko" for source in _parts()[1]]
    return linux_build.build_initramfs(progress, modules, cpu=_CPU)


def built() -> Path | None:
    """Return the cached kernel's path, or None when it is not built."""
    changed, modules = _parts()
    return linux_build.cached_kernel(*changed, *modules, version=_VERSION)
