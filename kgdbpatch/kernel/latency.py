"""Measure how long the calls of functions of a running kernel take, from entry to return."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from kgdbpatch.errors import Misuse
from kgdbpatch.kernel.probing import Probing, chosen
from kgdbpatch.kernel.trace_facts import timebase_hz
from kgdbpatch.patch.request import PatchRequest
from kgdbpatch.profiles.latency import TIMES, Figures, figures, latency_text, size_of
from kgdbpatch.profiles.rows import LatencyRow
from kgdbpatch.variables.path import locate

if TYPE_CHECKING:
    from kgdbpatch.kernel.kernel import Kernel

__all__ = ["Clock", "Latency", "clock_of"]

_TRIES = 5  # at reading figures that nobody writes meanwhile
_SECOND = 1_000_000_000


class Clock(NamedTuple):
    """What is measured in, and how many of it are in a tick of the guest's time base."""

    unit: str  # ns, instructions, or ticks where it is not known how many there are in a second
    per_tick: float


def clock_of(kernel: Kernel, unit: str = "time") -> Clock:
    """Return the clock for ``time`` or ``instructions``; raise `Misuse` where a guest does not have that.

    Instructions are those of a guest that counts them: its time runs with them.
    """
    hz = timebase_hz(kernel)
    if unit == "time":
        return Clock("ns", _SECOND / hz) if hz else Clock("ticks", 1.0)
    if unit != "instructions":
        raise Misuse(f"'{unit}' is nothing that can be measured: time, instructions")
    shift = re.search(r"\bshift=(\d+)", str(kernel.qemu.metadata.get("icount") or ""))
    if shift is None:
        told = f"guest '{kernel.name}' does not count instructions"
        raise Misuse(f"{told}: boot it with --icount, or measure time")
    if not hz:
        raise Misuse(f"how fast the time base of guest '{kernel.name}' is is not known: measure time")
    return Clock("instructions", _SECOND / hz / (1 << int(shift[1])))


class Latency(Probing):
    """Measures, while it is entered, the calls of functions; entry and return are paired by the frame.

    ``functions`` are their addresses, or a glob. Calls that began before it was entered are not counted.
    Recursion, threads and interrupts have each their own; ``unit`` is ``time`` or ``instructions``.

    >>> with Latency(kernel, "vfs_read") as latency:
    ...     latency.wait(1)
    ...     print(latency.rows()[0].average)
    10452.3
    """

    def __init__(self, kernel: Kernel, functions: str | Sequence[int], *, unit: str = "time") -> None:
        super().__init__(kernel)
        self.clock = clock_of(kernel, unit)
        self._functions = chosen(kernel, functions) if isinstance(functions, str) else [*functions]
        self._places: dict[int, int] = {}  # patch: where its figures are
        self._before: dict[int, Figures] = {}
        self._cpus = kernel.qemu.cpus()

    def _put_in(self, progress: Callable[[str], None]) -> None:
        text = latency_text(self.clock.per_tick, self._cpus)
        request = PatchRequest(c=text, exit=True, origin="<latency>")
        batch = self._add(self._functions, request, progress)
        ids = {patch.id for patch in batch.patches}
        arena = self._kernel._component.arena(self._kernel._header().arena)
        for record in arena.records():
            note = arena.note(record) if record.id in ids else None
            if note is not None:
                payload, names = note
                self._places[record.id] = payload + locate(TIMES, names, "a latency's payload").offset

    def figures(self) -> dict[int, Figures]:
        """Return the figures of each function by its address, in units of the clock; without a stop."""
        arena = self._kernel._component.arena(self._kernel._header().arena)
        found = {}
        for number, place in self._places.items():
            for _ in range(_TRIES):
                one, whole = figures(arena.read(place, size_of(self._cpus)))
                if whole:
                    break
            before = self._before.get(number)
            found[self._sites[number]] = one if before is None else one.since(before)
        return found

    def clear(self) -> None:
        """Have the figures begin anew."""
        arena = self._kernel._component.arena(self._kernel._header().arena)
        for number, place in self._places.items():
            self._before[number], _ = figures(arena.read(place, size_of(self._cpus)))

    def rows(self, *, under_way: bool = False) -> list[LatencyRow]:
        """Return a row for each function, those that took most time first.

        With ``under_way`` the guest is stopped for a moment where calls are open, to count them.
        """
        opened: dict[int, tuple[int | None, int | None]] = {}
        if under_way:
            table = {row.id: row for row in self._kernel.patch_table(calls=True)}
            opened = {
                self._sites[n]: (table[n].inside, table[n].unreturned) for n in self._sites if n in table
            }
        image, rows = self._kernel.image, []
        for site, one in self.figures().items():
            function = image.function_at(site)
            inside, unreturned = opened.get(site, (None, None))
            rows.append(
                LatencyRow(
                    image.symbolize(site) if function is None else function.name,
                    site if function is None else function.address,
                    self.clock.unit,
                    one.calls,
                    inside,
                    unreturned,
                    one.least if one.calls else None,
                    round(one.total / one.calls, 1) if one.calls else None,
                    one.most if one.calls else None,
                    one.total,
                    round(self.clock.per_tick, 3),
                    one.ranges(),
                )
            )
        return sorted(rows, key=lambda row: (-row.total, row.function))
