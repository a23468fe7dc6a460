"""Give out places in the arena: table slots, bodies, springboards; nothing is reserved in the guest."""

from __future__ import annotations

import heapq
from collections.abc import Iterator

import numpy as np

from kgdbpatch.component import layout
from kgdbpatch.component.table import Table
from kgdbpatch.errors import Refused
from kgdbpatch.guests.profile import ArenaPlan
from kgdbpatch.patch.plan import Place

__all__ = ["Allocator", "runs"]


class Allocator:
    """Hand out what a table leaves free, first fit; what `take` has given is not given again.

    Body addresses are the arena's usual virtual ones; `near` gives the same memory's address
    within reach of an absolute branch, where the guest has such a window.
    """

    def __init__(self, plan: ArenaPlan, table: Table, counter_offset: int) -> None:
        self._plan, self._counter = plan, counter_offset
        used = np.zeros(layout.RECORDS, bool)
        used[table.slots] = True
        self._slots = np.flatnonzero(~used).tolist()[::-1]
        self._springboards = self._free_springboards(table)
        self._gaps = self._free_memory(table)

    def _free_springboards(self, table: Table) -> list[int]:
        window = self._plan.springboards
        if window is None:
            return []
        held = set(table.raw["springboard"].tolist())
        free = [at for at in range(window.start, window.end, layout.SPRINGBOARD_SIZE) if at not in held]
        heapq.heapify(free)
        return free

    def _free_memory(self, table: Table) -> list[list[int]]:
        base = self._plan.virtual
        start, end = base + layout.BODIES_OFFSET, base + self._plan.size
        bodies = table.raw["body"].astype(np.int64)
        if self._plan.near is not None:
            near = (bodies >= self._plan.near.start) & (bodies < self._plan.near.end)
            bodies = np.where(near, bodies - self._plan.near_shift, bodies)
        behind = bodies + table.raw["body_size"]
        order = np.argsort(bodies)
        gaps = []
        for low, high in zip(bodies[order].tolist(), behind[order].tolist(), strict=True):
            if start < low:
                gaps.append([start, low])
            start = max(start, -(-high // layout.BODY_ALIGNMENT) * layout.BODY_ALIGNMENT)
        if start < end:
            gaps.append([start, end])
        return gaps

    def _fitting(self, size: int) -> list[int]:
        gap = next((gap for gap in self._gaps if gap[1] - gap[0] >= size), None)
        if gap is None:
            raise Refused("memory", f"the arena has no room for {size} more bytes")
        return gap

    def near(self, place: Place) -> Place | None:
        """Return the same place with the body within reach of an absolute branch, or None."""
        window = self._plan.near
        if window is None:
            return None
        body = place.body + self._plan.near_shift
        return Place(body, None, place.counter) if window.start <= body < window.end else None

    def look(self, size: int = 0) -> Place:
        """Return the place that `take` would give for ``size`` bytes.

        Raises `Refused` (rule ``memory``) when the arena or the table is full.
        """
        if not self._slots:
            raise Refused("memory", f"the patch table is full ({layout.RECORDS} patches)")
        slot = self._slots[-1]
        counter = self._plan.virtual + layout.TABLE_OFFSET + slot * layout.RECORD.itemsize + self._counter
        springboard = self._springboards[0] if self._springboards else None
        return Place(self._fitting(size)[0], springboard, counter)

    def take(self, size: int, *, springboard: bool) -> int:
        """Take the place that `look` returned for ``size`` bytes and return its slot."""
        gap = self._fitting(size)
        gap[0] += -(-size // layout.BODY_ALIGNMENT) * layout.BODY_ALIGNMENT
        if gap[0] >= gap[1]:
            self._gaps.remove(gap)
        if springboard:
            heapq.heappop(self._springboards)
        return self._slots.pop()


def runs(slots: list[int]) -> Iterator[tuple[int, int]]:
    """Yield (first, count) of the runs of consecutive numbers in ascending ``slots``."""
    start = 0
    for index in range(1, len(slots) + 1):
        if index == len(slots) or slots[index] != slots[index - 1] + 1:
            yield slots[start], index - start
            start = index
