"""What the memory of a program holds at first, by address."""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Sequence

__all__ = ["Memory"]


class Memory:
    """Parts of an image (address, bytes)."""

    def __init__(self, data: Sequence[tuple[int, bytes]]) -> None:
        self._parts = sorted((part for part in data if part[1]), key=lambda part: part[0])
        self._starts = [address for address, _ in self._parts]

    def words(self, address: int, count: int) -> tuple[int, ...] | None:
        """Return words in the order of addresses; None where the image has none."""
        part = bisect_right(self._starts, address) - 1
        if part < 0:
            return None
        start, data = self._parts[part]
        if address - start + 4 * count > len(data):
            return None
        return struct.unpack_from(f">{count}I", data, address - start)
