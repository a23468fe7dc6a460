"""Calls within calls, built anew from events of calls that have returned: threads apart, nothing guessed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from kgdbpatch.profiles.rings import Entry
from kgdbpatch.profiles.rows import GraphRow

__all__ = ["Call", "Nesting", "graph_lines", "graph_rows"]

_MOST = 1 << 16  # calls of a thread that nobody has claimed yet


@dataclass(eq=False)
class Call:
    """A call that has returned; times in ticks. ``entered`` events there were on ``entry_cpu`` before it."""

    function: int
    caller: int
    sp: int
    thread: int
    began: int
    ended: int
    cpu: int
    index: int
    entry_cpu: int
    entered: int
    depth: int  # how many calls of the root were under way where it began, itself included if it is one
    lost: int = 0  # events of its time that were not read: calls within it may be missing
    inner: list[Call] = field(default_factory=list)

    @classmethod
    def of(cls, entry: Entry) -> Call:
        """Return the call that an event tells of."""
        function, caller, sp, thread, b_high, b_low, e_high, e_low, entered, rest = entry.words
        return cls(
            function,
            caller,
            sp,
            thread,
            b_high << 32 | b_low,
            e_high << 32 | e_low,
            entry.cpu,
            entry.number,
            rest >> 16,
            entered,
            rest & 0xFFFF,
        )

    def contains(self, other: Call) -> bool:
        """Tell whether another call of the thread, which returned before, began within this one.

        On one CPU the order of events tells; else the clock does.
        """
        if self.cpu == self.entry_cpu == other.cpu:
            return (other.index - self.entered) % (1 << 32) < 1 << 31
        return other.began >= self.began


class Nesting:
    """Takes events in, gives trees of calls out: the calls of ``root`` that are within no other of it."""

    def __init__(self, root: int) -> None:
        self._root = root
        self._heads: list[int] = []
        self._open: defaultdict[int, list[Call]] = defaultdict(list)  # by thread: not claimed yet

    def begin(self, heads: list[int]) -> None:
        """Leave out calls of the root that were entered before each CPU had told of so many events."""
        self._heads = heads
        self._open.clear()

    def _counts(self, call: Call) -> bool:
        early = call.entry_cpu < len(self._heads) and call.entered < self._heads[call.entry_cpu]
        return call.function == self._root and not early

    def add(self, entries: Iterable[Entry], lost: Iterable[tuple[int, int, int]] = ()) -> list[Call]:
        """Return the calls of the root that have ended with these events; ``lost`` are gaps in their numbers.

        Those that began before `begin` are left out.
        """
        gaps = [*lost]
        calls = sorted((Call.of(one) for one in entries), key=lambda call: (call.ended, call.index))
        found = []
        for call in calls:
            waiting = self._open[call.thread]
            start = len(waiting)
            while start and call.contains(waiting[start - 1]):
                start -= 1
            call.inner = waiting[start:]
            del waiting[start:]
            call.lost = sum(
                max(min(call.index, end) - max(call.entered, first), 0)
                for cpu, first, end in gaps
                if cpu == call.cpu == call.entry_cpu
            )
            if call.function == self._root and call.depth <= 1:
                found += [one for one in (*waiting, call) if self._counts(one)]
                waiting.clear()
            else:
                waiting.append(call)
                del waiting[:-_MOST]
        return found

    def rest(self) -> list[Call]:
        """Return the calls of the root that are left: within others of it that have not returned."""
        found = [one for waiting in self._open.values() for one in waiting if self._counts(one)]
        self._open.clear()
        return found


def graph_rows(
    call: Call,
    number: int,
    name: Callable[[int], str],
    caller: Callable[[int], str],
    *,
    per_tick: float,
    interrupts: frozenset[int] = frozenset(),
    threads: Callable[[int], str | None] = lambda _: None,
) -> Iterator[GraphRow]:
    """Yield the calls of a tree, each before those within it, by depth."""
    pending = [(call, 0)]
    while pending:
        one, depth = pending.pop()
        took = (one.ended - one.began) * per_tick
        own = took - sum((inner.ended - inner.began) * per_tick for inner in one.inner)
        yield GraphRow(
            number,
            depth,
            name(one.function),
            one.function,
            "interrupt" if one.function in interrupts and depth else "call",
            one.cpu,
            one.thread,
            threads(one.thread),
            one.caller,
            caller(one.caller),
            round(one.began * per_tick, 1),
            round(took, 1),
            round(own, 1),
            one.lost,
            len(one.inner),
        )
        pending += [(inner, depth + 1) for inner in reversed(one.inner)]


def graph_lines(rows: Iterable[GraphRow], told: Callable[[float], str]) -> Iterator[str]:
    """Yield the lines that show a tree: durations (by ``told``), braces, what is within indented.

    >>> row = GraphRow(0, 0, "f", 16, "call", 1, 4096, None, 32, "g+0x4", 0.0, 60.2, 60.2, 0, 0)
    >>> print(*graph_lines([row], "{:.0f} ns".format))
     1)      60 ns |  f();
    """
    open_calls: list[GraphRow] = []

    def line(row: GraphRow, time: str, depth: int, text: str) -> str:
        return f"{row.cpu:>2}) {time:>10} |  {'  ' * depth}{text}"

    def closed(depth: int) -> Iterator[str]:
        while len(open_calls) > depth:
            row = open_calls.pop()
            beside = f" /* {row.function} */"
            if row.lost:
                beside += f" /* {row.lost} events were lost: calls may be missing here */"
            if row.kind == "interrupt":
                beside += " <=========="
            yield line(row, told(row.duration), row.depth, "}" + beside)

    for row in rows:
        yield from closed(row.depth)
        arrow = "==========> " if row.kind == "interrupt" else ""
        if row.calls:
            yield line(row, "", row.depth, f"{arrow}{row.function}() {{")
            open_calls.append(row)
        else:
            lost = f" /* {row.lost} events were lost: calls may be missing here */" if row.lost else ""
            yield line(row, told(row.duration), row.depth, f"{arrow}{row.function}();{lost}")
    yield from closed(0)
