"""Coverage of a running kernel: which of its basic blocks were ever executed, at full speed.

Each block begins with a trap, which the guest takes out when it is hit (patch/watch.py). Nothing but what
is in the guest tells what was run; which blocks there are stands in a file of the guest's directory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from kgdbpatch.component import layout
from kgdbpatch.component.arena import Header, field_offset
from kgdbpatch.component.layout import Op
from kgdbpatch.component.protocol import Command
from kgdbpatch.component.table import Record
from kgdbpatch.component.watched import Watched, watched
from kgdbpatch.coverage.run import OWN, Run, load, save
from kgdbpatch.errors import BadPatch, KgdbPatchError, Misuse, Refused
from kgdbpatch.patch.payload import count_payload
from kgdbpatch.patch.watch import (
    COPY_OFFSET,
    COUNTS,
    NO_WATCH,
    TAIL_WORDS,
    TRAP_WORD,
    Begun,
    Code,
    WatchEntry,
    area_of,
    entry_at,
    watch_plan,
)
from kgdbpatch.patch.watchable import RULES, judged, places
from kgdbpatch.results import PatchState

if TYPE_CHECKING:
    from kgdbpatch.coverage.lines import LineTable
    from kgdbpatch.coverage.report import Span
    from kgdbpatch.image import Image
    from kgdbpatch.kernel.kernel import Kernel
    from kgdbpatch.patch.plan import Plan

__all__ = ["Coverage"]

_GATE = 64  # bytes at the end of a tail that calls of the kernel may need
_FILE = "coverage.npz"  # in the guest's directory
_PATCHED, _CHOSEN, _NO_ROOM = OWN
_REASONS = (*RULES, *OWN)
_SPARE = 4096  # patches that have room beside those that count blocks
_BRANCHES = (16, 18, 19)  # primary opcodes


class Coverage:
    """The coverage of one guest; it lasts until `stop`, whoever asks.

    >>> kernel.coverage.start()
    >>> kernel.coverage.run().ran.sum()
    """

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self.pause = 0.0  # seconds that the last operation stopped the guest

    # ---- put in, take out -------------------------------------------------------------------------

    def start(
        self,
        functions: Iterable[int] | None = None,
        *,
        exact: bool = False,
        progress: Callable[[str], None] = lambda _: None,
    ) -> Run:
        """Watch every block, or those of the functions at such addresses; return what is watched.

        With ``exact`` they are counted. Raises `Misuse` when coverage is taken already, `Refused` where this
        kernel's cannot be.
        """
        kernel = self._kernel
        chosen = None if functions is None else [*functions]

        def change(header: Header, basis: bytes) -> Run:
            if self._records():
                raise Misuse(
                    f"guest '{kernel.name}' has its coverage taken already: 'coverage reset' begins anew"
                )
            with kernel._text.at_once():
                run = self._judged(chosen, exact=exact)
                if exact:
                    run, plans = self._counters(header, run, progress)
                else:
                    plans = [self._planned(header, run)]
            progress(f"watching {int(run.watched.sum()):,} blocks")
            if exact:
                kernel._component.apply(header, plans, kernel._text.hook, basis)
            else:
                self._put_in(header, basis, *plans[0])
            self.pause = kernel._component.pause
            save(self._file, run)
            return run

        return kernel._change(change)

    def reset(self) -> Run:
        """Take all blocks as not run, in one stop; those that patches have left by now are watched again.

        A start that was cut off is made anew: without what takes them out no trap may be put in.
        """
        kernel = self._kernel
        if any(one.coverage != "exact" and one.state is not PatchState.ACTIVE for one in self._there()):
            run = self._known()
            chosen = run.site[run.reason != _REASONS.index(_CHOSEN)].tolist()
            functions = {one.address for at in chosen if (one := self.image.function_at(at)) is not None}
            everything = len(chosen) == len(run.site)
            self.stop()
            return self.start(None if everything else sorted(functions))

        def change(header: Header, basis: bytes) -> Run:
            arena = kernel._component.arena(header.arena)
            watch = None if self._there()[0].coverage == "exact" else watched(kernel.qemu.ram, arena)
            own = None
            if watch is not None:
                with kernel._text.at_once():
                    own = self._own_words(self._known(), watch)
            with kernel._component.stop(header.arena, anywhere=watch is None) as stop:
                arena.check(basis)
                if watch is None or own is None:
                    at = field_offset("hits", layout.RECORD)
                    places = [arena.slot(one.slot) + at for one in self._there()]
                    stop.obey([Command(Op.STORE, place, 0) for place in places])
                else:
                    watch.leave(stop)
                    stop.obey([watch.mark(Begun.NO), *watch.again(own)])
                    stop.obey([*watch.traps_in(), watch.mark(Begun.YES)])
            self.pause = kernel._component.pause
            return self.run()

        return kernel._change(change)

    def stop(self) -> None:
        """Take everything out."""
        self._kernel.take_out([self._there()[0].id])
        self._file.unlink(missing_ok=True)

    # ---- what was run -------------------------------------------------------------------------------

    @property
    def image(self) -> Image:
        """The kernel's image without modules: what is watched is of it."""
        return self._kernel._text.images.kernel

    @property
    def on(self) -> bool:
        """Whether coverage is taken."""
        return bool(self._records())

    def run(self) -> Run:
        """Return what was run until now; the guest is not stopped, and its kernel may be dead."""
        kernel, records = self._kernel, self._there()
        run = self._known()
        hits, reason = np.zeros(len(run.site), np.uint32), run.reason.copy()
        if records[0].coverage == "exact":
            counted = {record.site: record.hits for record in records}
            seen = np.isin(run.site, np.fromiter(counted, np.uint32, len(counted)))
            hits[seen] = [counted[at] for at in run.site[seen].tolist()]
            reason[seen] = 0
            reason[~seen & (reason == 0)] = _REASONS.index(_PATCHED)
            return replace(run, hits=hits, reason=reason, modules=self._modules())
        watch = watched(kernel.qemu.ram, kernel._component.arena(kernel._header().arena))
        if watch is None or not watch.begun:
            raise Misuse(
                f"'coverage start' of guest '{kernel.name}' was cut off: 'coverage reset' begins anew"
            )
        index = (run.site.astype(np.int64) - watch.base) // 4
        inside = (index >= 0) & (index < watch.size // 4)
        index = np.where(inside, index, 0)
        text, seen = watch.text[index], inside & (watch.copy[index] != 0)
        hits[seen & (text != TRAP_WORD)] = 1  # what holds anything else was hit before that came
        reason[seen] = 0
        reason[~seen & (reason == 0)] = _REASONS.index(_PATCHED)
        return replace(run, hits=hits, reason=reason, modules=self._modules())

    def _modules(self) -> tuple[str, ...]:
        with suppress(KgdbPatchError):  # the list of a dead kernel's may be anything
            return tuple(sorted(module.name for module in self._kernel.modules()))
        return ()

    def functions(self) -> list[Span]:
        """Return the kernel's functions: first address, the one behind the last, name."""
        return [(one.address, one.end, one.name) for one in self.image.functions]

    def lines(self, symbols: Path | None = None) -> LineTable:
        """Return the kernel's source lines; raise `BadImage` where its file has none, nor one beside it."""
        from kgdbpatch.image.debug import debug_file
        from kgdbpatch.kernel.remembered import line_table

        return line_table(debug_file(self.image, symbols))

    # ---- the guest ----------------------------------------------------------------------------------

    def _records(self) -> list[Record]:
        """Return the patches that take coverage: one, or a counter for each block."""
        standing = (PatchState.ACTIVE, PatchState.UNFINISHED, PatchState.DAMAGED)
        return [one for one in self._kernel.records() if one.coverage and one.state in standing]

    def _there(self) -> list[Record]:
        found = self._records()
        if not found:
            raise Misuse(f"no coverage is taken of guest '{self._kernel.name}': 'coverage start' does that")
        return found

    @property
    def _file(self) -> Path:
        return self._kernel.qemu.directory / _FILE

    # ---- which blocks ----------------------------------------------------------------------------------

    def _judged(self, functions: list[int] | None, *, exact: bool) -> Run:
        """Return the blocks of the kernel, nothing of them run, and why some are not to be watched."""
        kernel = self._kernel
        checker = kernel._own_checker
        start, end, site = places(checker)
        inside = np.full(len(start), functions is None)
        for address in functions or ():
            function = checker.function(address)
            inside[slice(*np.searchsorted(start, (function.address, function.end)))] = True
        reason = np.where(inside, 0, _REASONS.index(_CHOSEN)).astype(np.uint8)
        if not exact:
            reason[inside] = judged(checker, site[inside], self._entry().spr)
        standing = [one for one in kernel.records() if one.state is not PatchState.RETIRED]
        sites = np.array([record.site for record in standing if not record.coverage], np.int64)
        reason[np.isin(site, sites) & (reason == 0)] = _REASONS.index(_PATCHED)
        hits = np.zeros(len(start), np.uint32)
        return Run(start, end, site, reason, hits, _REASONS, exact=exact, image=self.image.sha256)

    def _counters(
        self, header: Header, run: Run, progress: Callable[[str], None]
    ) -> tuple[Run, list[tuple[int, Plan]]]:
        """Return the run with the reasons why some blocks cannot be counted, and the plans of the others."""
        payload, run = count_payload(), self._fitting(header, run)
        wanted = [(site, payload) for site in run.site[run.watched].tolist()]
        planned, refused = self._kernel._planner(header).plan_sites(wanted, progress)
        reasons, reason = list(run.reasons), run.reason.copy()
        for one in refused:
            if one.rule not in reasons:
                reasons.append(one.rule)
            reason[np.searchsorted(run.site, one.address or 0)] = reasons.index(one.rule)
        marked = [(slot, plan._replace(guard=COUNTS)) for slot, plan in planned]
        return replace(run, reasons=tuple(reasons), reason=reason), marked

    def _fitting(self, header: Header, run: Run) -> Run:
        """Return the run without so many blocks as the patch table has no room for: first those behind calls.

        Some room is left for other patches.
        """
        room = layout.records(header.arena.size) - len(self._kernel.records()) - _SPARE
        surplus = int(run.watched.sum()) - room
        if surplus <= 0:
            return run
        ends = self._ends_in_call(run)
        behind = np.append(False, ends[:-1] & (run.end[:-1] + 4 == run.start[1:]))
        order = np.argsort(~(behind & run.watched) * 2 + ~run.watched, kind="stable")
        reason = run.reason.copy()
        reason[order[:surplus]] = run.reasons.index(_NO_ROOM)
        return replace(run, reason=reason)

    def _ends_in_call(self, run: Run) -> npt.NDArray[np.bool_]:
        """Tell which blocks end in a branch that links."""
        found = np.zeros(len(run.end), np.bool_)
        for address, words in self._kernel._text.pieces():
            first, last = np.searchsorted(run.end, (address, address + 4 * words.size)).tolist()
            some = words[(run.end[first:last].astype(np.int64) - address) // 4]
            found[first:last] = (np.isin(some >> np.uint32(26), _BRANCHES)) & (some & np.uint32(1) != 0)
        return found

    def _known(self) -> Run:
        """Return the blocks as they were judged, of a client that has died perhaps."""
        try:
            return load(self._file)
        except BadPatch:
            with self._kernel._text.at_once():
                return self._judged(None, exact=self._there()[0].coverage == "exact")

    # ---- the patch -------------------------------------------------------------------------------------

    def _tail(self, taken: range) -> int:
        """Return where in the tail of a vector there is room, a physical address."""
        kernel, size = self._kernel, 4 * TAIL_WORDS
        shift = kernel._text._vector_shift or 0
        for window in kernel._cpu.vector_tails(kernel._personality, self.image):
            start = -(-window.start // 16) * 16
            free = start + size + _GATE <= window.end and not {start, start + size - 4} & {*taken}
            if free and not kernel._text.raw_words(start, TAIL_WORDS).any():
                return start - shift
        raise Refused("trap", "no exception vector has room for what takes traps out")

    def _entry(self) -> WatchEntry:
        """Return where the program exception enters; raise `Refused` where no code can stand there."""
        hook = self._kernel._text.hook
        if hook is None or hook.translated:
            raise Refused("trap", f"no exception vector is known that could be used: {NO_WATCH}")
        first, second = (int(word) for word in self._kernel._text.words(hook.vector, 2))
        return entry_at(hook.vector, hook.shift, first, second)

    def _planned(self, header: Header, run: Run) -> tuple[int, Plan]:
        kernel, entry = self._kernel, self._entry()
        words, hook = kernel._text.words, kernel._text.hook
        assert hook is not None
        chosen = run.site[run.watched].astype(np.int64)
        if not chosen.size:
            raise Misuse("none of these blocks can be watched")
        base, last = int(chosen[0]), int(chosen[-1])
        if any(kernel._text.to_physical(at) != at - hook.shift for at in (base, last)):
            raise Refused("memory", "the kernel's code is not where its vectors are in memory", base)
        size = last + 4 - base
        copy = np.zeros(size // 4, ">u4")
        copy[(chosen - base) // 4] = words(base, size // 4)[(chosen - base) // 4]
        planner = kernel._planner(header)
        place = planner.place(COPY_OFFSET + size)
        body = kernel._component.arena(header.arena).inside(place)
        tail = self._tail(hook.span)
        code: Code = kernel._cpu.watch_code(entry, tail, body)
        area = area_of(entry, base, size, tail, body + COPY_OFFSET, code)
        plan = watch_plan(entry, place, code, area, copy.tobytes())
        return planner._allocator.claim(plan), plan

    def _put_in(self, header: Header, basis: bytes, slot: int, plan: Plan) -> None:
        """Put the patch in, then the traps: at any moment what is in takes out what is hit."""
        component = self._kernel._component
        application = component.application(header, [(slot, plan)], None, basis)
        with component.stop(header.arena) as stop:
            application.write(stop, kept=True)
            watch = watched(self._kernel.qemu.ram, component.arena(header.arena))
            assert watch is not None  # it was written just now
            stop.obey(watch.tail_in())
            application.splice(stop)
            stop.obey([*watch.traps_in(), watch.mark(Begun.YES)])

    def _own_words(self, run: Run, watch: Watched) -> npt.NDArray[np.uint32]:
        """Return the kernel's own words of the text where they are to be watched, 0 elsewhere."""
        own = np.zeros(watch.size // 4, np.uint32)
        index = (run.site[run.watched].astype(np.int64) - watch.base) // 4
        own[index] = self._kernel._text.words(watch.base, watch.size // 4)[index]
        return own
