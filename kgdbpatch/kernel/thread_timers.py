"""Time functions of a running kernel by the clocks of their threads, which stand while those wait."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from kgdbpatch.errors import Refused
from kgdbpatch.kernel.latency import Clock, clock_of
from kgdbpatch.kernel.probing import Probing, chosen
from kgdbpatch.kernel.trace_facts import facts_of, types_of
from kgdbpatch.kernel.variables import PatchVariables
from kgdbpatch.patch.request import PatchRequest
from kgdbpatch.profiles.rows import TimerRow
from kgdbpatch.profiles.thread_time import (
    SWITCHED,
    TOTALS,
    ThreadFigures,
    function_text,
    read_totals,
    size_of,
    switch_text,
)
from kgdbpatch.variables.path import locate

if TYPE_CHECKING:
    from kgdbpatch.kernel.kernel import Kernel

__all__ = ["ThreadTimers"]

_NUMBERS = itertools.count(1)
_TRIES = 5  # at reading figures that nobody writes meanwhile


class ThreadTimers(Probing):
    """Times functions while it is entered, each thread by a clock of its own that stands while it waits.

    ``functions`` are their addresses, or globs. The kernel's change of threads is instrumented as well, so
    neither sleep nor preemption counts; interrupts do, for whom they interrupt. ``room`` is for how many
    threads, a power of two. ``unit`` is ``time`` or ``instructions`` (`clock_of`). Raises `Refused` (rule
    ``thread switch``) where it is not known how this kernel changes threads.

    >>> with ThreadTimers(kernel, ["vfs_read", "vfs_write"]) as timers:
    ...     timers.wait(1)
    ...     print(timers.rows()[0].exclusive)
    """

    def __init__(
        self, kernel: Kernel, functions: Sequence[str | int], *, unit: str = "time", room: int = 1024
    ) -> None:
        super().__init__(kernel)
        self.clock: Clock = clock_of(kernel, unit)
        found = [
            address
            for one in functions
            for address in (chosen(kernel, one) if isinstance(one, str) else [one])
        ]
        self._functions = list(dict.fromkeys(found))
        self._room = room
        self._prefix = f"kgv_{os.getpid()}_{next(_NUMBERS)}"
        self._owner: int | None = None
        self._places: dict[int, int] = {}  # patch: where its totals are
        self._cpus = kernel.qemu.cpus()

    def _put_in(self, progress: Callable[[str], None]) -> None:
        kernel = self._kernel
        types = types_of(kernel)
        known = set() if types is None else {*types.index["struct"]}
        facts = facts_of(kernel, types)
        switch = kernel._personality.thread_switch(kernel.image, lambda name: name in known)
        current = facts.current.get("curtask")
        if switch is None or current is None:
            why = f"how guest '{kernel.name}' changes threads is not known: elapsed time is told by 'latency'"
            raise Refused("thread switch", why)
        text = switch_text(self._prefix, self._room, switch.old, switch.new, switch.names, typed=switch.typed)
        site = kernel.resolve(switch.function)
        asked = PatchRequest(c=text, entry=SWITCHED, origin="<timers>", uncounted=True)
        self._owner = next(iter(self._add([site], asked).patches)).id if self._functions else None
        text = function_text(
            self._prefix, self._room, self._cpus, current.c, current.externs, typed=switch.typed
        )
        request = PatchRequest(c=text, entry="kgv_end", exit=True, origin="<timers>")
        batch = self._add(self._functions, request, progress)
        if not batch.patches:
            raise batch.refused[0]
        ids = {patch.id for patch in batch.patches}
        arena = kernel._component.arena(kernel._header().arena)
        for record in arena.records():
            note = arena.note(record) if record.id in ids else None
            if note is not None:
                payload, names = note
                self._places[record.id] = payload + locate(TOTALS, names, "a timer's payload").offset

    @property
    def lost(self) -> int:
        """How many calls were not timed, as their threads found no room."""
        if self._owner is None:
            return 0
        value = PatchVariables(self._kernel, self._owner)[f"{self._prefix}_full"]
        return value if isinstance(value, int) else 0

    def figures(self) -> dict[int, ThreadFigures]:
        """Return the figures of each function by its address, in ticks of the time base; without a stop."""
        arena = self._kernel._component.arena(self._kernel._header().arena)
        found = {}
        for number, place in self._places.items():
            for _ in range(_TRIES):
                one, whole = read_totals(arena.read(place, size_of(self._cpus)))
                if whole:
                    break
            found[self._sites[number]] = one
        return found

    def rows(self) -> list[TimerRow]:
        """Return a row for each function, those that ran longest on their own first."""
        image, unit, rows = self._kernel.image, self.clock.per_tick, []
        for site, one in self.figures().items():
            function = image.function_at(site)
            rows.append(
                TimerRow(
                    image.symbolize(site) if function is None else function.name,
                    site,
                    self.clock.unit,
                    one.calls,
                    round(one.inclusive * unit),
                    round(one.exclusive * unit),
                    round(one.elapsed * unit),
                    round(one.longest * unit),
                    round(unit, 3),
                )
            )
        return sorted(rows, key=lambda row: (-row.exclusive, row.function))
