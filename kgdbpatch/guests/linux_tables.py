"""What a Linux image says of its own code: places whose faults are looked up, code given up after boot."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from kgdbpatch.errors import UnknownSymbol
from kgdbpatch.guests.profile import Window

if TYPE_CHECKING:
    from kgdbpatch.image import Image

__all__ = ["exception_table", "init_memory"]


def exception_table(image: Image) -> frozenset[int]:
    """Return the addresses in ``__ex_table``: pairs (instruction, fixup), relative to themselves."""
    section = next((section for section in image.sections if section.name == "__ex_table"), None)
    if section is None:
        return frozenset()
    relative = np.frombuffer(section.data, ">i4", len(section.data) // 8 * 2).astype(np.int64)
    places = section.address + 4 * np.arange(relative.size)
    return frozenset(((places + relative) & 0xFFFF_FFFF)[::2].tolist())


def init_memory(image: Image) -> tuple[Window, ...]:
    """Return the range that the kernel frees when it has booted (``__init_begin`` to ``__init_end``)."""
    try:
        return (Window(image.lookup("__init_begin"), image.lookup("__init_end")),)
    except UnknownSymbol:
        return ()
