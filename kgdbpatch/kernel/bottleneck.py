"""Find why a running kernel is slow: from where control enters it down to the function, and its loop.

Stacks that are looked at for a while say where to go; only the functions on that way are instrumented.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from kgdbpatch.analysis.calls_to import calls_to
from kgdbpatch.errors import KgdbPatchError, Misuse, Refused
from kgdbpatch.kernel.code_map import CodeMap
from kgdbpatch.kernel.probing import assure_running, chosen, while_alive
from kgdbpatch.kernel.thread_timers import ThreadTimers
from kgdbpatch.kernel.tracing import Trace
from kgdbpatch.profiles.descent import (
    Moment,
    Sample,
    Step,
    callees,
    descend,
    hottest,
    under,
    way_to,
    while_waiting,
)
from kgdbpatch.profiles.rows import BottleneckRow, LoopRow, PathRow, TimerRow

if TYPE_CHECKING:
    from kgdbpatch.kernel.kernel import Kernel
    from kgdbpatch.results import FrameRow
    from kgdbpatch.results import Trace as Stack

__all__ = ["CPU", "Search"]

CPU = "cpu"  # what is asked: what the CPUs' time goes to
_LEAST, _MOST = 60, 300  # moments that are looked at
_ENOUGH = 30  # of those, in what is asked for
_PATIENCE = 4  # times the seconds that are given, for the least of them
_PAUSE = 0.01  # seconds between them, at least
_LONGEST = 12  # functions of the way that are instrumented, the last ones
_OFTEN = 100  # calls of one call: then it is these that count
_USERS = 8  # places that call a function: more have a service, which is not to blame
_MOSTLY = 0.2  # of the times that a thread is woken: it may wait for other things besides
_MEASURED = 3.0  # seconds of a round of timers, at most
_ROUNDS, _CALLEES = 3, 6  # of timers; of what a function calls so many more are timed in a round
_LOOPS = 0.5  # seconds in which blocks are counted
_Say = Callable[[str], None]
Timers = dict[int, TimerRow]


class _Found(NamedTuple):
    """Where the way down ended: the functions on it, who is to blame, and what for."""

    steps: list[Step]
    function: int
    why: str
    callee: int | None


class Search:
    """A search for what makes a kernel slow; each is for one question.

    ``asked`` is ``cpu``, or a function whose calls take long, be it that they wait. ``seconds`` are for
    looking.

    >>> Search(kernel, "vfs_read").run().function
    'page_cache_ra_unbounded'
    """

    def __init__(self, kernel: Kernel, asked: str = CPU, *, seconds: float = 5.0) -> None:
        self._kernel, self._asked, self._seconds = kernel, asked, seconds
        self._root = None if asked == CPU else chosen(kernel, asked)[0]
        self._scheduler = kernel._personality.scheduler(kernel.image)
        self._began = 0.0
        self._instrumented: list[tuple[float, int, str]] = []
        self._known: set[int] = set()
        self._idle: set[int] = set()
        self._seen: list[Sample] = []  # of what is asked for

    def run(self, say: _Say = lambda _: None) -> BottleneckRow:
        """Search; the guest runs on but for short stops, and nothing is left in it.

        Raises `Misuse` for a paused guest, for a CPU that is idle, and for a function that nobody calls.
        """
        assure_running(self._kernel)
        self._began = time.monotonic()
        say("looking at the stacks")
        moments = self._gather()
        found, counted = self._descended(moments)
        say("instrumenting the way down")
        found, timers = self._measured(found)
        say("counting blocks")
        loop = None if found.why == "waits" else self._loop(found.function)
        return self._row(found, timers, loop, len(moments), counted)

    # ---- look ------------------------------------------------------------------------------------

    def _gather(self) -> list[Moment]:
        """Return what all threads did at many moments."""
        kernel, moments = self._kernel, list[Moment]()
        code = CodeMap(kernel)
        names = kernel._personality.idle

        def glimpse() -> None:
            if len(moments) >= _MOST:
                return
            samples: list[Sample] = []
            for trace in kernel.stacks(code):
                rests = bool(names) and trace.name.startswith(names)
                if rests and trace.thread is not None:
                    self._idle.add(trace.thread)
                samples += self._samples(trace, rests)
            moments.append(Moment(samples))

        while_alive(kernel, self._seconds, glimpse, _PAUSE)
        until = self._began + _PATIENCE * self._seconds
        while time.monotonic() < until and not self._enough(moments):
            while_alive(kernel, _PAUSE, glimpse, _PAUSE)
        return moments

    def _enough(self, moments: Sequence[Moment]) -> bool:
        """Tell whether enough was seen of what is asked for, or nothing more is looked at."""
        paths = (one.path for moment in moments for one in moment.samples)
        seen = len(moments) if self._root is None else sum(self._root in path for path in paths)
        return len(moments) == _MOST or (len(moments) >= _LEAST and seen >= _ENOUGH)

    def _samples(self, trace: Stack, rests: bool) -> list[Sample]:
        """Return the stack of a thread, and that of the interrupt that has its CPU."""
        kinds = [frame.kind for frame in trace.frames]
        on_cpu, samples = trace.cpu is not None, list[Sample]()
        cut = next((n for n, kind in enumerate(kinds) if kind in ("interrupted", "process")), None)
        inner = self._path(trace.frames[:cut]) if cut and on_cpu else ()
        if cut and len(inner) > 1:  # else it is just being entered
            interrupts = kinds[cut] == "interrupted" or self._entered_by_interrupt(trace, cut)
            samples.append(Sample(None if interrupts else trace.thread, True, True, inner))
            if not interrupts:
                return samples
        interrupted = kinds.index("interrupted") if "interrupted" in kinds else 0  # what it did before
        frames = [frame for frame in trace.frames[interrupted:] if frame.kind != "process"]
        waits = not on_cpu and not interrupted and trace.state != "runnable"
        path = self._path(frames) if on_cpu else self._without_scheduler(self._path(frames))
        runs = on_cpu and not samples
        if path and not (rests and runs):
            samples.append(Sample(trace.thread, not waits, runs, path))
        return samples

    @staticmethod
    def _entered_by_interrupt(trace: Stack, cut: int) -> bool:
        return trace.frames[cut].exception in ("external interrupt", "decrementer")

    def _path(self, frames: Sequence[FrameRow]) -> tuple[int, ...]:
        """Return the functions of frames, the outermost first."""
        found: list[int] = []
        for frame in reversed(frames):
            function = self._kernel.image.function_at(frame.address - 4 * (frame.kind == "call"))
            if frame.patch is not None:
                try:
                    function = self._kernel[str(frame.function).split("+")[0]]
                except KgdbPatchError:
                    function = None
            if function is not None and (not found or found[-1] != function.address):
                found.append(function.address)
        return tuple(found)

    def _without_scheduler(self, path: tuple[int, ...]) -> tuple[int, ...]:
        """Return a path without the scheduler's own functions at its end."""
        end = len(path)
        while end and any(window.start <= path[end - 1] < window.end for window in self._scheduler):
            end -= 1
        return path[:end]

    # ---- down ------------------------------------------------------------------------------------

    def _descended(self, moments: Sequence[Moment]) -> tuple[_Found, int]:
        kernel = self._kernel
        if self._root is None:
            samples = [one for moment in moments for one in moment.samples if one.on_cpu]
            if not samples:
                raise Misuse(
                    f"the CPUs of guest '{kernel.name}' were idle at all of {len(moments)} looks: "
                    "ask for a function that takes long (--for FUNCTION)"
                )
            self._seen = samples
            return self._computes(hottest(samples)), len(samples)
        samples = under(moments, self._root)
        if not samples:
            raise Misuse(
                f"no call of {self._asked} was under way at any of {len(moments)} looks: "
                "look for longer (--seconds), or have it called"
            )
        waiting = [one for one in samples if not one.running]
        if 2 * len(waiting) < len(samples):
            self._seen = [one for one in samples if one.running]
            return self._computes(hottest(self._seen)), len(samples)
        return self._waits(moments, waiting), len(samples)

    def _waits(self, moments: Sequence[Moment], waiting: Sequence[Sample]) -> _Found:
        """Return what calls wait for: what the thread does meanwhile that wakes them, if one does."""
        assert self._root is not None
        steps = descend(waiting)
        callee = steps[-1].function
        waiters = Counter(one.thread for one in waiting if one.thread is not None)
        for waiter, _ in waiters.most_common(1):
            found = [
                self._meanwhile(moments, waiter, other)
                for other in self._wakers(waiter)
                if while_waiting(moments, self._root, waiter, other)
            ]
            if found:
                return _Found(steps, max(found)[1], "waits", callee)
        return _Found(steps, self._own(steps), "waits", callee)

    def _own(self, steps: Sequence[Step]) -> int:
        """Return the innermost function that is no service of which many make use."""
        image = self._kernel.image
        for one in reversed(steps):
            if len(calls_to(image, one.function)) <= _USERS:
                return one.function
        return steps[-1].function

    def _meanwhile(self, moments: Sequence[Moment], waiter: int, other: int) -> tuple[float, int]:
        """Return what a thread does while a call waits in ``waiter``; and how much more often than else."""
        assert self._root is not None
        function = self._own(descend(while_waiting(moments, self._root, waiter, other)))
        shares: list[float] = []
        for waits in (True, False):
            inside = [
                any(one.thread == other and function in one.path for one in moment.samples)
                for moment in moments
                if waits == bool(while_waiting([moment], self._root, waiter, other))
            ]
            shares.append(sum(inside) / len(inside) if inside else 0.0)
        return shares[0] - shares[1], function

    def _wakers(self, thread: int) -> list[int]:
        """Return the threads that often wake another; none where that is not known.

        Interrupts wake it as well, while any thread runs.
        """
        wakes = self._kernel._personality.wakes
        if not wakes or not self._kernel.image.knows(wakes):
            return []
        counts: dict[tuple[int, int], int] = {}
        with suppress(Refused), Trace(self._kernel, f"{wakes} {{ @[arg0, curtask] = count() }}") as trace:
            self._note([self._kernel.resolve(wakes)], "who wakes it")
            while_alive(self._kernel, self._seconds)
            resolve = self._kernel.resolve
            counts = {
                (resolve(str(woken)), resolve(str(by))): int(row.value)
                for row in trace.maps()
                for woken, by in (row.key,)
            }
        by_whom = {by: count for (woken, by), count in counts.items() if woken == thread}
        least = _MOSTLY * sum(by_whom.values())
        return [by for by, count in by_whom.items() if count > least and by not in self._idle]

    @staticmethod
    def _computes(steps: list[Step]) -> _Found:
        return _Found(steps, steps[-1].function, "computes", None)

    # ---- instruments -----------------------------------------------------------------------------

    def _note(self, functions: Sequence[int], what: str, count: int | None = None) -> None:
        self._known.update(functions)
        when = round(time.monotonic() - self._began, 1)
        self._instrumented.append((when, len(functions) if count is None else count, what))

    def _measured(self, found: _Found) -> tuple[_Found, Timers]:
        """Return what timers say is to blame, and the timers of all that was timed.

        Where a stop cannot come, with interrupts off, stacks that were looked at tell of what comes next: it
        is the figures that count. What the slowest function has called is timed then, too.
        """
        functions = list(dict.fromkeys([*(one.function for one in found.steps[-_LONGEST:]), found.function]))
        timers = self._timed(functions)
        if found.why == "waits":
            return found, timers
        for _ in range(_ROUNDS - 1):
            slowest = self._slowest(found, timers)
            more = [one for one in callees(self._seen, slowest, _CALLEES) if one not in functions]
            if not more:
                break
            functions += more
            timers = self._timed(functions)
        return self._judged(found, timers), timers

    def _timed(self, functions: Sequence[int]) -> Timers:
        """Return what timers tell of functions; nothing where none can be timed."""
        try:
            with ThreadTimers(self._kernel, functions) as timers:
                self._note(functions, "timers")
                timers.wait(min(self._seconds, _MEASURED))
                return {row.address: row for row in timers.rows() if row.calls}
        except Refused:  # a rule forbids all of them, or this kernel's threads are not known
            return {}

    @staticmethod
    def _slowest(found: _Found, timers: Timers) -> int:
        """Return the function that ran longest on its own; the one on top where its calls do not return."""
        if found.function not in timers:
            return found.function
        return max(timers, key=lambda at: (timers[at].exclusive, at))

    def _judged(self, found: _Found, timers: Timers) -> _Found:
        """Return who is to blame by the figures: the slowest, or who calls it, or what it calls, so often."""
        slowest = self._slowest(found, timers)
        steps = way_to(self._seen, slowest) or found.steps
        found = _Found(steps, slowest, "computes", None)
        here = timers.get(slowest)
        if here is None:
            return found
        caller = timers.get(steps[-2].function) if len(steps) > 1 else None
        if caller is not None and here.calls >= _OFTEN * caller.calls:
            return found._replace(function=caller.address, why="calls", callee=slowest)
        for callee in callees(self._seen, slowest, _CALLEES):
            called = timers.get(callee)
            if called is not None and called.calls >= _OFTEN * here.calls:
                onward = [*steps, *way_to(self._seen, callee)[-1:]]
                return _Found(onward, slowest, "calls", callee)
        return found

    def _loop(self, function: int) -> LoopRow | None:
        """Return the block of a function that runs most instructions."""
        from kgdbpatch.kernel.analyses import flow

        kernel = self._kernel
        named = kernel.image.function_at(function)
        if named is None:
            return None
        blocks = flow(kernel.image, named).graph.blocks
        batch = kernel.patch_all(blocks, count=True)
        try:
            self._note([function], "blocks", len(batch.patches))
            while_alive(kernel, _LOOPS)
            hits = {patch.site: patch.hits or 0 for patch in batch.patches}
        finally:
            kernel.remove(*(patch.id for patch in batch.patches))
        if not any(hits.values()):
            return None
        start = max(hits, key=lambda at: (hits[at] * (blocks[at].end - at), -at))
        entries = hits.get(function)
        per_call = round(hits[start] / entries, 1) if entries else None
        file, line = self._line(start)
        return LoopRow(
            start, blocks[start].end, kernel.image.symbolize(start), hits[start], per_call, file, line
        )

    def _line(self, address: int) -> tuple[str | None, int | None]:
        from kgdbpatch.image.debug import debug_file
        from kgdbpatch.vm.source_lines import source_lines

        try:
            path = debug_file(self._kernel.image)
        except KgdbPatchError:
            return None, None
        return source_lines(path, [address]).get(address, (None, None))

    def _row(
        self, found: _Found, timers: Timers, loop: LoopRow | None, looks: int, counted: int
    ) -> BottleneckRow:
        image = self._kernel.image
        path = []
        for one in found.steps:
            timer = timers.get(one.function)
            path.append(
                PathRow(
                    image.symbolize(one.function),
                    one.function,
                    round(one.stacks / counted, 3),
                    round(one.waited / one.stacks, 3),
                    None if timer is None else timer.calls,
                    None if timer is None else timer.inclusive,
                    None if timer is None else timer.exclusive,
                    None if timer is None else timer.elapsed,
                )
            )
        unit = next((timer.unit for timer in timers.values()), "ns")
        callee = None if found.callee is None else image.symbolize(found.callee)
        return BottleneckRow(
            self._asked,
            image.symbolize(found.function),
            found.why,
            callee,
            unit,
            tuple(path),
            loop,
            looks,
            counted,
            tuple(self._instrumented),
            len(self._known),
            len(image.functions),
        )
