"""A kernel of which nothing but its file is known: it can be looked at, not booted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from kgdbpatch.errors import Misuse
from kgdbpatch.guests.profile import MIB, LogLine, Profile, Window

if TYPE_CHECKING:
    from kgdbpatch.image import Image

__all__ = ["Unknown"]

_NEAR = 16 * MIB
_ARENA = 32 * MIB


class Unknown(Profile):
    """What is assumed of an unknown kernel: some memory for patches, out of reach and within it."""

    name = "unknown"
    memory_mib = 288
    announced_mib = 256
    ready = panic = r"$^"  # nothing
    untranslated_sections = frozenset()

    def build(self, progress: Callable[[str], None]) -> Path:
        """Raise `Misuse`."""
        raise Misuse("this kernel cannot be built: it is no bundled one")

    def image_path(self) -> Path | None:
        """Return None: no such kernel is bundled."""
        return None

    def qemu_args(self, kernel: Path, directory: Path) -> list[str]:
        """Raise `Misuse`."""
        raise Misuse("it is not known how this kernel boots")

    def parse_log(self, line: str) -> LogLine | None:
        """Return None: it is not known what its lines look like."""
        return None

    def to_physical(self, image: Image, address: int) -> int | None:
        """Return None: it is not known where its memory lies."""
        return None

    def near_window(self, image: Image) -> Window:
        """Return 16 MiB before the text, or behind it where it begins that low."""
        sections = image.code_sections()
        start = min(section.address for section in sections) & ~(MIB - 1)
        if start < _NEAR:
            start = -(-max(section.end for section in image.sections) // MIB) * MIB + _NEAR
        return Window(start - _NEAR, start)

    def arena_virtual(self, image: Image) -> int:
        """Return a block that ends where nothing of the image is, out of reach of its text."""
        start = min(segment.address for segment in image.segments or image.sections)
        return 0x4000_0000 if start >= 0x8000_0000 else 0xA000_0000
