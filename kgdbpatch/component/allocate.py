"""Give out places in the arena: table slots, bodies, springboards; nothing is reserved in the guest."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from kgdbpatch.component import layout
from kgdbpatch.component.table import Table
from kgdbpatch.errors import Refused
from kgdbpatch.patch.plan import Place, Plan
from kgdbpatch.patch.trap import trap_word
from kgdbpatch.personality.base import ArenaPlan

__all__ = ["Allocator"]


class _Slots:
    """Free slots, ascending; the table has too many to make a list of them for every plan."""

    def __init__(self, numbers: npt.NDArray[np.int64]) -> None:
        self._numbers, self._taken = numbers, 0

    def __bool__(self) -> bool:
        return self._taken < len(self._numbers)

    @property
    def first(self) -> int:
        """The lowest one."""
        return int(self._numbers[self._taken])

    def claim(self) -> int:
        """Claim the lowest one."""
        slot = self.first
        self._taken += 1
        return slot


class Allocator:
    """Hand out what a table leaves free, first fit; what was claimed is not given again.

    Body addresses are the arena's usual virtual ones; `near` gives the same memory's address
    within reach of an absolute branch, where the guest has such a window. ``springboards`` are free
    slots to use instead of those of the springboard window.
    """

    def __init__(
        self,
        plan: ArenaPlan,
        table: Table,
        counter_offset: int,
        springboards: Sequence[int] | None = None,
    ) -> None:
        self._plan, self._counter = plan, counter_offset
        self._first = plan.virtual + layout.TABLE_OFFSET
        self._records = layout.records(plan.size)
        free = np.ones(self._records, bool)
        free[table.slots] = False
        self._quick = _Slots(np.flatnonzero(free[:: layout.QUICK]) * layout.QUICK)
        free[:: layout.QUICK] = False
        self._slots = _Slots(np.flatnonzero(free))
        self._springboards = self._free_springboards(table) if springboards is None else list(springboards)
        self._gaps = self.free_memory(table)

    def _free_springboards(self, table: Table) -> list[int]:
        window, size = self._plan.springboards, layout.SPRINGBOARD_SIZE
        if window is None:
            return []
        held = {
            start + size * number
            for start, slots in table.raw[["springboard", "springboard_slots"]].tolist()
            for number in range(slots)
        }
        return [at for at in range(window.start, window.end, size) if at not in held]

    def springboard(self, size: int) -> int | None:
        """Return the lowest of adjacent free springboard slots for ``size`` bytes, or None."""
        slots = range(0, max(size, 1), layout.SPRINGBOARD_SIZE)
        free = self._springboards
        for index, start in enumerate(free):
            if free[index : index + len(slots)] == [start + offset for offset in slots]:
                return start
        return None

    def free_memory(self, table: Table) -> list[list[int]]:
        """Return the gaps [start, end) that a table's patches leave free for bodies, ascending."""
        base = self._plan.virtual
        start, end = base + layout.bodies_offset(self._plan.size), base + self._plan.size
        if self._plan.near is not None and self._plan.springboards is None:  # bodies run nowhere else
            start = max(start, end - (self._plan.near.end - self._plan.near.start))
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
        here = place._replace(body=body, springboard=None)
        return here if window.start <= body < window.end else None

    def trapped(self, place: Place) -> Place:
        """Return the same place entered by a trap, near the text where it can be: for the way back."""
        slot = (place.counter - self._counter - self._first) // layout.RECORD.itemsize
        return (self.near(place) or place)._replace(springboard=None, trap=trap_word(slot))

    def _choose(self, *, quick: bool) -> _Slots:
        """Return the free slots to take the first one of: the lowest, that a batch's be adjacent."""
        if quick and self._quick:
            return self._quick
        some = [slots for slots in (self._slots, self._quick) if slots]
        if not some:
            raise Refused("memory", f"the patch table is full ({self._records} patches)")
        return min(some, key=lambda slots: slots.first)

    def peek(self, size: int = 0, springboard_size: int = 0, *, quick: bool = False) -> Place:
        """Return a place for a body of ``size`` bytes and a springboard of ``springboard_size``.

        Nothing is claimed. The springboard is None when none is left. ``quick`` asks for one of the few
        counters whose address takes one instruction to make; they lie far apart in the table.
        Raises `Refused` (rule ``memory``) when the arena or the table is full.
        """
        slot = self._choose(quick=quick).first
        counter = self._first + slot * layout.RECORD.itemsize
        springboard = self.springboard(springboard_size)
        return Place(self._fitting(size)[0], springboard, counter + self._counter, paged=self._plan.paged)

    def claim(self, plan: Plan, *, quick: bool = False) -> int:
        """Claim the places of a plan that was made for what `peek` returned; return its table slot."""
        gap = self._fitting(len(plan.code))
        gap[0] += -(-len(plan.code) // layout.BODY_ALIGNMENT) * layout.BODY_ALIGNMENT
        if gap[0] >= gap[1]:
            self._gaps.remove(gap)
        if plan.springboard is not None:
            for offset in range(0, len(plan.springboard_code), layout.SPRINGBOARD_SIZE):
                self._springboards.remove(plan.springboard + offset)
        return self._choose(quick=quick).claim()
