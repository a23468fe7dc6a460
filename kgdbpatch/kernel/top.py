"""Watch what a running kernel is busy with: calls, time and blocks of its functions, interval by interval."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from kgdbpatch.errors import Misuse
from kgdbpatch.kernel.latency import Latency
from kgdbpatch.kernel.probing import Probing, chosen, while_alive
from kgdbpatch.patch.request import PatchRequest
from kgdbpatch.profiles.rates import SORTS, Counts, top_rows
from kgdbpatch.profiles.rows import TopRow

if TYPE_CHECKING:
    from kgdbpatch.kernel.kernel import Kernel

__all__ = ["Top"]

_AT_ONCE = 2000  # functions that are planned and put in together
_BUSIEST = 128  # functions whose time or blocks are measured where nobody says which
_FIRST = 1.0  # seconds in which these are found


class Top(Probing):
    """Counts, while it is entered, the calls of functions: all of the kernel's, or those of a glob.

    Sorted by ``time``, calls are also measured, by ``blocks`` the basic blocks executed are counted: of the
    functions of the glob, or of those that are called most.

    >>> with Top(kernel) as top:
    ...     top.wait(1)
    ...     print([row.function for row in top.rows()[:3]])
    ['__rcu_read_lock', '__rcu_read_unlock', 'memset']
    """

    def __init__(self, kernel: Kernel, pattern: str | None = None, *, sort: str = "calls") -> None:
        super().__init__(kernel)
        if sort not in SORTS:
            raise Misuse(f"'{sort}' is nothing to sort by: {', '.join(SORTS)}")
        self._all, self.sort = pattern is None, sort
        self.functions: Sequence[int] = chosen(kernel, "*" if pattern is None else pattern)
        self._owners: dict[int, int] = {}  # of blocks: their functions
        self._latency: Latency | None = None
        self._interval = 0
        self._counters = set[int]()  # ids of the patches that count calls
        self._names: dict[int, str] = {}
        self._entries: dict[int, int] = {}
        self._before = Counts(time.monotonic(), {}, {}, {})

    @property
    def counted(self) -> int:
        """How many functions are counted by now."""
        return len(self._counters)

    def _put_in(self, progress: Callable[[str], None]) -> None:
        count, total = PatchRequest(count=True), len(self.functions)
        for start in range(0, total, _AT_ONCE):
            progress(f"counting {start:,} of {total:,} functions")
            batch = self._add(self.functions[start : start + _AT_ONCE], count, progress)
            self._counters |= {patch.id for patch in batch.patches}
        wanted = [*self.functions]
        if self._all and self.sort != "calls":
            progress("finding the functions that are called most")
            self._before = self._counts()
            while_alive(self._kernel, _FIRST)
            wanted = [row.address for row in self._rows()[:_BUSIEST]]
        if self.sort == "time":
            progress(f"measuring {len(wanted):,} functions")
            self._latency = Latency(self._kernel, wanted)
            self._latency.start(progress)
            self.refused += self._latency.refused
        elif self.sort == "blocks":
            self._count_blocks(set(wanted), progress)
        self._before = self._counts()

    def _count_blocks(self, wanted: set[int], progress: Callable[[str], None]) -> None:
        from kgdbpatch.kernel import analyses

        liveness = analyses.liveness(self._kernel.image)
        program, blocks = liveness.program, liveness.blocks
        starts = program.entry_address.tolist()
        places = program.address[blocks.first].tolist()
        owners = {
            place: starts[number]
            for place, number in zip(places, program.function[blocks.first].tolist(), strict=True)
            if number >= 0 and starts[number] in wanted
        }
        found = [*owners]
        for start in range(0, len(found), _AT_ONCE):
            progress(f"counting {start:,} of {len(found):,} blocks")
            self._add(found[start : start + _AT_ONCE], PatchRequest(count=True), progress)
        self._owners = owners

    def stop(self) -> None:
        """Take all counters out; what was counted is gone then."""
        latency, self._latency = self._latency, None
        try:
            if latency is not None:
                latency.stop()
        finally:
            super().stop()

    def rows(self) -> list[TopRow]:
        """Return what the functions did since the last call, or the start; the guest is not stopped."""
        found = self._rows()
        self._interval += 1
        return found

    def _rows(self) -> list[TopRow]:
        now, before = self._counts(), self._before
        self._before = now
        known = self._latency is not None and self._latency.clock.unit == "ns"
        known &= not self._kernel.qemu.metadata.get("icount")  # the guest's time is another than ours
        cpus = self._kernel.qemu.cpus() if known else None
        return top_rows(now, before, self._name, interval=self._interval, sort=self.sort, cpus=cpus)

    def _name(self, address: int) -> str:
        if address not in self._names:
            function = self._kernel.image.function_at(address)
            name = self._kernel.image.symbolize(address) if function is None else function.name
            self._names[address] = name
        return self._names[address]

    def _counts(self) -> Counts:
        arena = self._kernel._component.arena(self._kernel._header().arena)
        at, raw = time.monotonic(), arena.table().raw
        calls: dict[int, int] = {}
        blocks: defaultdict[int, dict[int, int]] = defaultdict(dict)
        for number, site, hits in raw[["id", "site", "hits"]].tolist():
            if number not in self._sites:
                continue
            if number in self._counters:
                calls[site] = hits
            elif site in self._owners:
                blocks[self._owners[site]][site] = hits
        measured = {} if self._latency is None else self._latency.figures()
        times = {self._entry(site): float(one.total) for site, one in measured.items()}
        return Counts(at, {self._entry(site): hits for site, hits in calls.items()}, blocks, times)

    def _entry(self, site: int) -> int:
        """Return the function that a counter is for, which stands behind what a tracer has at the entry."""
        if site not in self._entries:
            function = self._kernel.image.function_at(site)
            self._entries[site] = site if function is None else function.address
        return self._entries[site]
