"""Rings that payloads write, one for each CPU: what comes out of them in order, and what is lost."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

__all__ = ["Entry", "Rings"]

_MARGIN = 64  # slots of a ring that the guest may be writing while they are read
_HIGHEST = 1 << 32
_HEAD = 8  # bytes before the slots


class Entry(NamedTuple):
    """What a payload wrote: on which CPU, its number there, its words."""

    cpu: int
    number: int
    words: list[int]


class Rings:
    """Rings of ``slots`` (a power of two) of so many ``words``, behind each other at ``place``.

    ``read(address, size)`` reads the guest's memory, without a stop.
    """

    def __init__(
        self, read: Callable[[int, int], bytes], place: int, *, cpus: int, slots: int, words: int
    ) -> None:
        self._read, self._place, self._slots, self._words = read, place, slots, words
        self._tails = [0] * cpus
        self.lost: list[tuple[int, int, int]] = []  # (CPU, first, behind the last) of those written over

    @property
    def tails(self) -> list[int]:
        """How much each CPU had written when it was last looked at."""
        return [*self._tails]

    def news(self) -> list[Entry]:
        """Return what was written since the last call, in order for each CPU; ``lost`` tells what is gone."""
        found: list[Entry] = []
        size = _HEAD + 4 * self._words * self._slots
        for cpu, tail in enumerate(self._tails):
            ring = self._place + cpu * size
            head = tail + (self._head(ring) - tail) % _HIGHEST
            first = max(tail, head - (self._slots - _MARGIN))
            rows = self._rows(ring + _HEAD, first, head)
            now = tail + (self._head(ring) - tail) % _HIGHEST
            whole = min(max(first, now - self._slots), head)  # what is before was written over meanwhile
            if whole > tail:
                self.lost.append((cpu, tail, whole))
            found += [Entry(cpu, index, rows[index - first]) for index in range(whole, head)]
            self._tails[cpu] = head
        return found

    def _head(self, ring: int) -> int:
        return int.from_bytes(self._read(ring, 4), "big")

    def _rows(self, slots: int, first: int, end: int) -> list[list[int]]:
        rows: list[list[int]] = []
        size = 4 * self._words
        while first < end:
            at = first % self._slots
            count = min(end - first, self._slots - at)
            raw = np.frombuffer(self._read(slots + size * at, size * count), ">u4")
            rows += raw.reshape(count, self._words).tolist()
            first += count
        return rows
