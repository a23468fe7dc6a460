"""A kernel of which nothing but its file is known: it can be looked at, not booted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kgdbpatch.personality.base import MIB, LogLine, Personality, Window

if TYPE_CHECKING:
    from kgdbpatch.image import Image

__all__ = ["Unknown"]

_NEAR = 16 * MIB


class Unknown(Personality):
    """What is assumed of an unknown kernel: some memory for patches, out of reach and within it."""

    name = "unknown"
    kernel_format = "elf"
    panic = r"$^"  # nothing
    untranslated_sections = frozenset()

    def checked(self, image: Image) -> Image:
        """Return the image: a kernel of any format may be an unknown one."""
        return image

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
