"""Trace the calls within the calls of one function of a running kernel, with their times."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

from kgdbpatch.analysis.call_graph import CallKind
from kgdbpatch.errors import KgdbPatchError, Misuse
from kgdbpatch.kernel.latency import clock_of
from kgdbpatch.kernel.probing import Probing, chosen, while_alive
from kgdbpatch.kernel.trace_facts import facts_of, types_of
from kgdbpatch.kernel.variables import PatchVariables
from kgdbpatch.patch.request import PatchRequest
from kgdbpatch.profiles.graph_text import SEEN, SEEN_MOST, WORDS, GraphNames, graph_text, seen_text
from kgdbpatch.profiles.nesting import Call, Nesting, graph_rows
from kgdbpatch.profiles.rings import Rings
from kgdbpatch.profiles.rows import GraphRow
from kgdbpatch.variables.path import locate

if TYPE_CHECKING:
    from kgdbpatch.kernel.kernel import Kernel

__all__ = ["Graph"]

_NUMBERS = itertools.count(1)
_POLL = 0.05  # seconds between looks at the rings
_SOUGHT = 0.5  # seconds between looks for functions that were called by pointer
_BY_CTR, _BY_LR = 0x4E80_0421, 0x4E80_0021  # bctrl, blrl


class Graph(Probing):
    """Traces, while it is entered, the calls of ``function`` and those within, ``depth`` levels of them.

    Which functions these are the call graph tells; those called by pointer are added once they are seen. At
    most ``most`` functions are probed. ``slots`` (a power of two) is how many calls a CPU's ring holds.

    >>> with Graph(kernel, "vfs_read", depth=2) as graph:
    ...     graph.wait(1)
    ...     print([row.function for row in graph.rows()][:2])
    ['vfs_read', 'rw_verify_area']
    """

    def __init__(
        self, kernel: Kernel, function: str, *, depth: int = 3, most: int = 500, slots: int = 8192
    ) -> None:
        super().__init__(kernel)
        if depth < 1 or slots & (slots - 1):
            raise Misuse("depth is 1 or more, slots a power of two")
        (self._root,) = chosen(kernel, function)
        self._depth, self._most, self.clock = depth, most, clock_of(kernel)
        types = types_of(kernel)
        facts = facts_of(kernel, types)
        word = facts.current.get("curtask")
        stack = kernel._personality.stack_size(kernel.image)
        prefix = f"kgg_{os.getpid()}_{next(_NUMBERS)}"
        self._names = GraphNames(
            prefix,
            facts.cpus,
            slots,
            None if word is None else word.c,
            () if word is None else word.externs,
            types is not None,
            stack,
        )
        self._nesting, self._number = Nesting(self._root), 0
        self._rings: Rings | None = None
        self._probed: dict[int, int] = {self._root: 0}  # function: how deep
        self._pointers: dict[int, tuple[int, int]] = {}  # patch at a call by pointer: its notes, how deep
        self._done: list[Call] = []
        self._sought = 0.0
        self.left_out = 0  # functions beyond ``most``
        image = kernel.image
        handlers = {image.lookup(name) for name in kernel._personality.handlers if image.knows(name)}
        self.interrupts = frozenset(handlers - {self._root})
        self._threads: dict[int, str] = {}

    @property
    def lost(self) -> int:
        """How many events came faster than they were read."""
        return 0 if self._rings is None else sum(end - first for _, first, end in self._rings.lost)

    @property
    def probed(self) -> frozenset[int]:
        """The functions that are probed by now."""
        image = self._kernel.image
        sites = (site for number, site in self._sites.items() if number not in self._pointers)
        found = (image.function_at(site) for site in sites)
        return frozenset(one.address for one in found if one is not None)

    # ---- put in --------------------------------------------------------------------------------------

    def _put_in(self, progress: Callable[[str], None]) -> None:
        names = self._names
        text = graph_text(names, root=True)
        batch = self._add([self._root], PatchRequest(c=text, exit=True, origin="<graph>"), progress)
        if not batch.patches:
            return
        (patch,) = batch.patches
        place = PatchVariables(self._kernel, patch.id).address(names.ring)
        self._rings = Rings(self._read, place, cpus=names.cpus, slots=names.slots, words=WORDS)
        progress("finding what it calls")
        self._probe([*self._callees({self._root: 0}).items()], progress)
        self._rings.news()  # what has ended by now began before all was probed, and so may what ends later
        self._nesting.begin(self._rings.tails)

    def _read(self, address: int, size: int) -> bytes:
        return self._kernel._component.arena(self._kernel._header().arena).read(address, size)

    def _callees(self, functions: dict[int, int]) -> dict[int, int]:
        """Return functions, and what they call by the call graph, each with how deep it is."""
        from kgdbpatch.kernel import analyses

        graph, found, pending = analyses.call_graph(self._kernel.image), dict(functions), [*functions]
        for address in pending:  # it grows meanwhile: breadth first
            depth = found[address] + 1
            for call in graph.callees(address):
                if call.kind is CallKind.ADDRESS or call.target in found or depth > self._depth:
                    continue
                found[call.target] = depth
                pending.append(call.target)
        return found

    def _probe(self, functions: list[tuple[int, int]], progress: Callable[[str], None]) -> None:
        """Probe functions that are not yet, and the calls by pointer in them and in the root."""
        fresh = [(at, depth) for at, depth in functions if at not in self._probed]
        room = max(self._most - len(self._probed), 0)
        self.left_out += max(len(fresh) - room, 0)
        fresh = fresh[:room]
        self._probed |= dict(fresh)
        sites = [at for at, _ in fresh]
        if not self._pointers:  # the first time
            sites += [at for at in self.interrupts if at not in sites]
            fresh.append((self._root, 0))
        if sites:
            text = graph_text(self._names, root=False)
            self._add(sites, PatchRequest(c=text, exit=True, origin="<graph>"), progress)
        for word, register in ((_BY_CTR, "ctr"), (_BY_LR, "lr")):
            calls = {
                call: depth for at, depth in fresh if depth < self._depth for call in self._calls_by(at, word)
            }
            if calls:
                request = PatchRequest(c=seen_text(self._names, register), origin="<graph>", uncounted=True)
                batch = self._add([*calls], request, progress)
                self._note_pointers({patch.id: calls[patch.site] for patch in batch.patches})

    def _calls_by(self, function: int, word: int) -> Iterator[int]:
        """Yield the calls of one form in a function."""
        found = self._kernel.image.function_at(function)
        if found is None:
            return
        with suppress(KgdbPatchError):
            words = self._kernel.words(found.address, found.size // 4).tolist()
            yield from (found.address + 4 * index for index, one in enumerate(words) if one == word)

    def _note_pointers(self, depths: dict[int, int]) -> None:
        arena = self._kernel._component.arena(self._kernel._header().arena)
        for record in arena.records():
            note = arena.note(record) if record.id in depths else None
            if note is not None:
                payload, names = note
                place = payload + locate(SEEN, names, "a graph's payload").offset
                self._pointers[record.id] = (place, depths[record.id])

    def _seek(self) -> None:
        """Probe the functions that were called by pointer meanwhile."""
        fresh: dict[int, int] = {}
        for place, depth in self._pointers.values():
            data = self._read(place, 4 * SEEN_MOST)
            for at in range(0, len(data), 4):
                target = int.from_bytes(data[at : at + 4], "big") & ~3
                function = self._kernel.image.function_at(target) if target else None
                if function is not None and function.address == target and target not in self._probed:
                    fresh.setdefault(target, depth + 1)
        if fresh and len(self._probed) < self._most:
            self._probe([*self._callees(fresh).items()], lambda _: None)

    # ---- read ----------------------------------------------------------------------------------------

    def calls(self) -> list[Call]:
        """Return the calls of the function that have returned since the last time, with those within."""
        if self._rings is None:
            return []
        self._fetch()
        found, self._done = self._done, []
        return found

    def _fetch(self) -> None:
        assert self._rings is not None
        before = len(self._rings.lost)
        entries = self._rings.news()
        self._done += self._nesting.add(entries, self._rings.lost[-64:] if before or self._rings.lost else ())
        now = time.monotonic()
        if now > self._sought + _SOUGHT:
            self._seek()
            self._sought = time.monotonic()

    def wait(self, seconds: float | None, calls: int | None = None) -> None:
        """Let so many seconds pass, or so many calls of the function; raise `DeadKernel` when it dies."""
        until = None if seconds is None else time.monotonic() + seconds
        while until is None or time.monotonic() < until:
            while_alive(self._kernel, _POLL)
            if self._rings is not None:
                self._fetch()
            if calls is not None and len(self._done) >= calls:
                break

    def rows(self) -> list[GraphRow]:
        """Return the calls since the last time, and those within them; the guest is not stopped."""
        return [row for call in self.calls() for row in self.rows_of(call)]

    def rows_of(self, call: Call) -> list[GraphRow]:
        """Return a call, and those within it, by depth."""
        symbolize = self._kernel.image.symbolize
        self._number += 1
        return [
            *graph_rows(
                call,
                self._number - 1,
                self._name,
                lambda back: symbolize(back - 4),
                per_tick=self.clock.per_tick,
                interrupts=self.interrupts,
                threads=self._thread,
            )
        ]

    def _name(self, address: int) -> str:
        function = self._kernel.image.function_at(address)
        return self._kernel.image.symbolize(address) if function is None else function.name

    def _thread(self, address: int) -> str | None:
        if address not in self._threads:
            with suppress(KgdbPatchError):
                self._threads |= {one.address: one.name for one in self._kernel._threads.all()}
        return self._threads.get(address)
