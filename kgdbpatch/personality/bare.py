"""A kernel that is no known operating system: its file says where it lies, its recipe what it prints."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from kgdbpatch.personality.base import MIB, LogLine, MemoryPlan, Personality, Window

if TYPE_CHECKING:
    from kgdbpatch.image import Image

__all__ = ["Bare"]

_NEAR = 16 * MIB


class Bare(Personality):
    """A kernel whose virtual and physical addresses are those of its file's segments.

    ``panic``, ``oops`` and ``log`` are regexes on console lines; ``log`` has the groups ``time``,
    ``source`` and ``message``. Its threads are not known: memory of a patch is given back when nothing in
    RAM looks like an interrupted context inside it.
    """

    name = "bare"
    kernel_format = "elf"
    panic = r"(?!)"
    untranslated_sections = frozenset()
    told = frozenset({"panic", "oops", "log"})

    def __init__(
        self,
        memory: MemoryPlan | None = None,
        panic: str = r"(?!)",
        oops: str = r"(?!)",
        log: str = r"(?!)",
    ) -> None:
        super().__init__(memory)
        self.panic, self.oops = panic, oops
        self._log = re.compile(log)

    def parse_log(self, line: str) -> LogLine | None:
        """Parse a line as the recipe says."""
        match = self._log.fullmatch(line.rstrip("\r\n"))
        if match is None:
            return None
        groups = {"time": "", "source": "", "message": line, **match.groupdict(default="")}
        return LogLine(groups["time"], groups["source"], groups["message"])

    def to_physical(self, image: Image, address: int) -> int | None:
        """Return where the file's segments put an address; None outside of them."""
        for segment in image.segments:
            if address in segment and segment.physical is not None:
                return address - segment.address + segment.physical
        return None

    def stack_physical(self, image: Image, address: int) -> int | None:
        """Return where the first segment's map puts an address, as far as memory is announced."""
        first = next((segment for segment in image.segments if segment.physical is not None), None)
        if first is None or first.physical is None:
            return None
        physical = address - first.address + first.physical
        return physical if 0 <= physical < self.memory.announced * MIB else None

    def near_window(self, image: Image) -> Window:
        """Return a block behind the image, or in front of one that lies high, within reach of its text."""
        size = min(_NEAR, (self.memory.memory - self.memory.announced) * MIB)
        start, end = image.segments[0].address, max(segment.end for segment in image.segments)
        at = -(-end // size) * size if start < size else start // size * size - size
        return Window(at, at + size)

    def arena_virtual(self, image: Image) -> int:
        """Return a block that is far from the image; whether it is free is asked of the CPU's own map."""
        return 0x4000_0000 if image.segments[0].address >= 0x8000_0000 else 0xA000_0000
