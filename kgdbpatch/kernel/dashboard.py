"""How a guest is, look by look and without a stop: health, rates, patches, new lines of the syslog."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from kgdbpatch.errors import KgdbPatchError, TargetLost
from kgdbpatch.kernel.attached_health import watch
from kgdbpatch.kernel.health import Health
from kgdbpatch.results import PatchRow, PatchState
from kgdbpatch.vm.peer import peer_of
from kgdbpatch.vm.qemu import Qemu

if TYPE_CHECKING:
    from kgdbpatch.kernel.kernel import Kernel
    from kgdbpatch.personality.base import LogLine
    from kgdbpatch.vm.runtime import GuestRecord

__all__ = ["Dashboard", "DashboardRow", "DashboardView", "Sample", "rates"]

_WORD = 1 << 32  # counters of kernels wrap around there
_COMMAND = 60  # characters of another debugger's command line that are told
_STOPS = "its memory can be read by stops alone, which are not made here ('kgdbpatch list' makes one)"


@dataclass(frozen=True, slots=True)
class DashboardRow:
    """A patch: ``place`` is its site's name, ``rate`` its hits per second; None: not counted, or not known.

    ``file`` is what it is from: a file or an update.
    """

    id: int
    site: int
    place: str
    state: PatchState
    hits: int | None
    rate: float | None
    file: str | None


@dataclass(frozen=True, slots=True)
class Sample:
    """What counted at a moment ``at`` (seconds): hits by patch, ticks of the clock, changes of threads."""

    at: float
    hits: Mapping[int, int] = field(default_factory=dict)
    ticks: int | None = None
    switches: int | None = None


@dataclass(frozen=True, slots=True)
class DashboardView:
    """One look at a guest.

    ``debugger`` tells who else holds it, ``up`` for how many seconds its QEMU has run, ``ticks`` and
    ``switches`` how many there are a second, ``used`` bytes of ``arena`` those of patches' code. ``log`` are
    the lines since the last look, ``no_patches`` and ``no_log`` why there are none. None: not known.
    """

    name: str
    kernel: str
    pid: int
    health: Health
    debugger: str = ""
    up: float | None = None
    ticks: float | None = None
    switches: float | None = None
    used: int | None = None
    arena: int | None = None
    patches: tuple[DashboardRow, ...] = ()
    no_patches: str = ""
    log: tuple[LogLine, ...] = ()
    no_log: str = ""

    @property
    def state(self) -> str:
        """How the guest is, in a word: as of `Health`, or ``held``: another debugger has stopped it."""
        return "held" if self.debugger and self.health.state == "paused" else self.health.state

    @property
    def reason(self) -> str:
        """Why it is so."""
        return f"by another debugger, {self.debugger}" if self.state == "held" else self.health.reason


def rates(before: Sample, now: Sample) -> tuple[dict[int, float], float | None, float | None]:
    """Return what there was a second between two samples: hits by patch, ticks, changes of threads.

    A patch that was not there before, or counted more, has none; kernels' counters may have wrapped around.
    """
    seconds = now.at - before.at
    if seconds <= 0:
        return {}, None, None
    hits = {
        one: (count - before.hits[one]) / seconds
        for one, count in now.hits.items()
        if before.hits.get(one, count + 1) <= count
    }

    def of_word(then: int | None, count: int | None) -> float | None:
        return None if then is None or count is None else (count - then) % _WORD / seconds

    return hits, of_word(before.ticks, now.ticks), of_word(before.switches, now.switches)


class Dashboard:
    """Looks at a guest again and again; a dead kernel is looked at as well.

    >>> dashboard = Dashboard(kernel)
    >>> [(row.place, row.hits) for row in dashboard.view().patches]
    [('run_netisr', 4120)]
    """

    def __init__(self, kernel: Kernel) -> None:
        self._kernel, self._record = kernel, kernel.qemu.record
        self._before = Sample(0.0)
        self._examined: Health | None = None
        self._log: Callable[[], list[LogLine]] | None = None
        self._names: dict[tuple[int, str | None], str] = {}

    def view(self) -> DashboardView:
        """Return how the guest is, its rates since the last look; raise `TargetLost` when it has ended."""
        kernel = self._kernel
        health = self._health()
        view = DashboardView(kernel.name, kernel.image.path.name, kernel.pid, health, up=_up(self._record))
        if health.state == "ended" or not kernel.alive:
            raise kernel.qemu.lost()
        other = peer_of(kernel.qemu.gdb_socket, but=os.getpid())
        if other is not None:
            view = replace(view, debugger=f"process {other[0]} ({other[1][:_COMMAND]})")
        try:
            return self._with_log(self._with_figures(view))
        except TargetLost as error:
            if not kernel.alive:
                raise kernel.qemu.lost() from error
            raise

    def examine(self) -> None:
        """Find out whether the kernel hangs, for the looks that follow; that takes seconds where it seems so.

        Another thread may do it meanwhile: nothing but the answer is shared.
        """
        qemu = Qemu.of(self._record)
        try:
            self._examined = watch(qemu, self._kernel._recipe, lambda: self._kernel.image).examine()
        finally:
            qemu.close()

    def _health(self) -> Health:
        known, found = self._examined, self._kernel._watch.glance()
        hangs = known is not None and known.state == "hung" and found.state == "running"
        return known if hangs and known is not None else found

    def _with_figures(self, view: DashboardView) -> DashboardView:
        kernel, ticks, switches = self._kernel, None, None
        if not kernel.qemu.ram.live:
            return replace(view, no_patches=_STOPS)
        ticks, switches = kernel._watch.counts()
        rows: list[PatchRow] = []
        try:
            if kernel.unpatchable is not None:
                view = replace(view, no_patches=kernel.unpatchable)
            else:
                rows = kernel.patch_table()
                arena = kernel._component.arena(kernel._header().arena)
                view = replace(view, used=arena.used(), arena=arena.plan.size)
        except KgdbPatchError as error:
            if not kernel.alive:
                raise
            view = replace(view, no_patches=str(error))
        hits = {row.id: row.hits for row in rows if row.hits is not None}
        now = Sample(time.monotonic(), hits, ticks, switches)
        of_patches, ticking, switching = rates(self._before, now) if self._before.at else ({}, None, None)
        self._before = now
        patches = tuple(self._rows(rows, of_patches))
        return replace(view, ticks=ticking, switches=switching, patches=patches)

    def _rows(self, rows: Iterable[PatchRow], of_patches: Mapping[int, float]) -> Iterable[DashboardRow]:
        unknown = {(row.site, row.module) for row in rows} - self._names.keys()
        if unknown:
            image = self._kernel.image
            self._names |= {(site, module): image.symbolize(site) for site, module in unknown}
        for row in rows:
            place = self._names[row.site, row.module]
            if row.state is PatchState.UNLOADED:
                place = f"0x{row.site:08x} [{row.module}]"
            file = row.update or row.file or row.coverage
            yield DashboardRow(row.id, row.site, place, row.state, row.hits, of_patches.get(row.id), file)

    def _with_log(self, view: DashboardView) -> DashboardView:
        try:
            if self._log is None:
                self._log = self._kernel.log.unread()
            return replace(view, log=tuple(self._log()))
        except KgdbPatchError as error:
            if not self._kernel.alive:
                raise
            return replace(view, no_log=str(error))


def _up(record: GuestRecord) -> float | None:
    """Return for how many seconds a guest's QEMU has run."""
    if not record.started:
        return None
    return max(time.clock_gettime(time.CLOCK_BOOTTIME) - record.started / os.sysconf("SC_CLK_TCK"), 0.0)
