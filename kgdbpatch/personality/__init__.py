"""Operating systems as guests' kernels: one module or package each, detected by what an image holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kgdbpatch.errors import Misuse
from kgdbpatch.personality.base import ArenaPlan, LogLine, MemoryPlan, Personality, Window

if TYPE_CHECKING:
    from kgdbpatch.image import Image

__all__ = ["ArenaPlan", "LogLine", "MemoryPlan", "Personality", "Window", "detect", "personality"]

_LINUX = ("linux_banner", "__start___ex_table")


def personality(name: str, memory: MemoryPlan | None = None, **lines: str) -> Personality:
    """Return the operating system called ``name``; raise `Misuse` with the known ones.

    ``lines`` are the regexes of `Bare`; others know what they print.

    >>> personality("linux").kernel_format
    'elf'
    """
    if name in ("darwin", "linux", "unknown") and lines:
        raise Misuse(f"{', '.join(lines)}: what '{name}' prints is known; leave it out")
    if name == "darwin":
        from kgdbpatch.personality.darwin import Darwin

        return Darwin(memory)
    if name == "linux":
        from kgdbpatch.personality.linux import Linux

        return Linux(memory)
    if name == "unknown":
        from kgdbpatch.personality.unknown import Unknown

        return Unknown(memory)
    if name == "bare":
        from kgdbpatch.personality.bare import Bare

        return Bare(memory, **lines)
    raise Misuse(f"no personality '{name}'; there are bare, darwin, linux")


def detect(image: Image) -> Personality:
    """Return the operating system that a kernel file looks like: by its format, tables and symbols."""
    if image.format == "mach-o":
        return personality("darwin")
    if any(section.name == "__ex_table" for section in image.sections) or image.symbols.last(_LINUX):
        return personality("linux")
    return personality("unknown")
