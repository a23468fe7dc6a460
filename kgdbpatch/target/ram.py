"""Guest RAM, mapped read-only into this process: reading it costs the guest nothing."""

from __future__ import annotations

import mmap
from pathlib import Path

import numpy as np
import numpy.typing as npt

from kgdbpatch.errors import Misuse

__all__ = ["Ram"]


class Ram:
    """The RAM file of one guest, ``size`` bytes; addresses are physical."""

    def __init__(self, path: Path, size: int) -> None:
        self.size = size
        with path.open("rb") as file:
            mapped = mmap.mmap(file.fileno(), size, prot=mmap.PROT_READ)
        self._bytes = np.frombuffer(mapped, np.uint8)

    def array(self, physical: int, size: int) -> npt.NDArray[np.uint8]:
        """Return a live view of ``size`` bytes; raise `Misuse` outside RAM."""
        if not 0 <= physical <= physical + size <= self.size:
            raise Misuse(f"0x{physical:x}..0x{physical + size:x} is outside the guest's RAM")
        return self._bytes[physical : physical + size]

    def read(self, physical: int, size: int) -> bytes:
        """Return a copy of ``size`` bytes."""
        return self.array(physical, size).tobytes()
