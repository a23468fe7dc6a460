"""Trace a running kernel by a program: its probes put in, what they gather read while the guest runs."""

from __future__ import annotations

import itertools
import os
import re
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Self

from kgdbpatch.errors import BadPatch, KgdbPatchError, Misuse, Refused
from kgdbpatch.kernel.trace_probes import Group, Probes
from kgdbpatch.kernel.trace_reader import Counted, TraceReader
from kgdbpatch.kernel.variables import PatchVariables
from kgdbpatch.patch.request import PatchRequest
from kgdbpatch.results import MapRow, PatchState, TraceEvent
from kgdbpatch.tracing.parse import parse
from kgdbpatch.tracing.payload_text import payload_text
from kgdbpatch.tracing.plan import Gathered
from kgdbpatch.tracing.syntax import Block, Call, Effect, Map, Stop, Text

if TYPE_CHECKING:
    from kgdbpatch.kernel.kernel import Kernel

__all__ = ["Trace"]

_NUMBERS = itertools.count(1)
_POLL, _WATCHED = 0.05, 1.0  # seconds between looks at the rings, and at the kernel's health


class Trace:
    """A program that watches a kernel; as a context manager it is in the guest for that long.

    ``text`` is as `kgdbpatch trace` takes it. Each CPU's ring holds ``slots`` events (a power of two), a map
    ``entries`` keys. Raises `Misuse` with the place of what is wrong in the program.

    >>> with Trace(kernel, "udp_sendmsg { @[comm] = count() }") as trace:
    ...     time.sleep(1)
    ...     print(trace.maps())
    """

    def __init__(self, kernel: Kernel, text: str, *, slots: int = 4096, entries: int = 1024) -> None:
        self._kernel, self._slots = kernel, slots
        self.program = parse(text)
        if not self.program.probes:
            raise Misuse("the program has no probe: FUNCTION { count() }")
        self._gathered = Gathered(text, entries)
        self._prefix = f"kgt_{os.getpid()}_{next(_NUMBERS)}"
        self._probes = Probes(kernel, self.program, self._gathered)
        self._reader = TraceReader(kernel, self._gathered, self._probes.facts.cpus, slots)
        self._sites: dict[int, int] = {}  # of our patches
        self._owner: int | None = None
        self.refused: list[Refused] = []  # sites where a rule forbids a probe
        self._ended = False

    @property
    def lost(self) -> int:
        """How many events came faster than they were read."""
        return self._reader.lost

    @property
    def first_site(self) -> int:
        """The address of the first patch that was put in."""
        return next(iter(self._sites.values()))

    @property
    def unread(self) -> int:
        """How often memory was to be read that is not the kernel's own, and read as 0."""
        return self._reader.unread()

    @property
    def over(self) -> bool:
        """Whether the program itself has ended the trace."""
        return self._ended or self._reader.over

    def events(self) -> list[TraceEvent]:
        """Return the events since the last call, each CPU's in their order; the guest is not stopped."""
        return self._reader.events()

    def maps(self) -> list[MapRow]:
        """Return what all maps hold, the largest last; the guest is not stopped."""
        return self._reader.maps()

    def clear(self, name: str) -> None:
        """Have a map begin anew; raise `Misuse` for one of another kind than counts, sums and histograms."""
        self._reader.clear(name)

    def c_texts(self) -> list[str]:
        """Return the C of each payload, as it is compiled."""
        return [
            payload_text(group.payload, self._gathered, self._probes.facts, self._prefix, self._slots)
            for group in self._probes.groups
            if group.payload is not None
        ]

    # ---- put in, take out ------------------------------------------------------------------------

    def __enter__(self) -> Self:
        """Put the probes in."""
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Take them out."""
        self.stop()

    def start(self, progress: Callable[[str], None] = lambda _: None) -> None:
        """Put the probes in: those with the maps first; all of them, or none where one cannot be compiled."""
        try:
            for group in self._probes.groups:
                self._put_in(group, progress)
        except BaseException as error:
            self.stop()
            if isinstance(error, BadPatch):  # what only the compiler knows
                raise Misuse(
                    f"the program: {_complaint(error)} (--show-c prints what was compiled)"
                ) from None
            raise
        if not self._sites:
            self.stop()
            raise self.refused[0] if self.refused else Misuse("nothing to trace")

    def _put_in(self, group: Group, progress: Callable[[str], None]) -> None:
        kernel = self._kernel
        if group.payload is None:
            batch = kernel.patch_all(group.sites, count=True, exit=group.returns, progress=progress)
            self.refused += batch.refused
            ids = {patch.id: patch.site for patch in batch.patches}
            self._reader.count(Counted(ids, group.by_function, group.returns))
            self._sites |= ids
            return
        text = payload_text(group.payload, self._gathered, self._probes.facts, self._prefix, self._slots)
        sites = [*group.sites]
        while self._owner is None and sites:
            first = sites.pop(0)
            try:
                patch = kernel.patch(first, self._request(f"#define KGT_OWNER\n{text}", group))
            except Refused as refused:
                self.refused.append(refused)
                continue
            self._owner = patch.id
            self._sites[patch.id] = patch.site
            self._find_places()
        if sites:
            batch = kernel.patch_all(sites, self._request(text, group), progress=progress)
            self.refused += batch.refused
            self._sites |= {patch.id: patch.site for patch in batch.patches}

    def _request(self, text: str, group: Group) -> PatchRequest:
        assert group.payload is not None
        link = group.payload.caller == "link"
        exits = group.returns
        sited = group.payload.site == "given"
        return PatchRequest(c=text, exit=exits, origin="<trace>", uncounted=not exits, link=link, sited=sited)

    def _find_places(self) -> None:
        assert self._owner is not None
        variables = PatchVariables(self._kernel, self._owner)
        names = ["ring", "over", *(f"map_{index}" for index in range(len(self._gathered.maps)))]
        for name in names:
            with suppress(KgdbPatchError):  # what no payload uses was dropped by the compiler
                self._reader.places[name] = variables.address(f"{self._prefix}_{name}")

    def run(self, tell: Callable[[TraceEvent | MapRow], None], seconds: float | None = None) -> None:
        """Tell events as they come, and what ``every`` prints, until the program stops or the time is over.

        A kernel that dies meanwhile is told as such: `DeadKernel`.
        """
        began = now = time.monotonic()
        due = {number: began + one.seconds for number, one in enumerate(self.program.every)}
        watched = began + _WATCHED
        while not self.over and (seconds is None or now - began < seconds):
            left = [_POLL, *(at - now for at in due.values())]
            if seconds is not None:
                left.append(began + seconds - now)
            time.sleep(max(min(left), 0))  # the rings are looked at: nothing wakes us when the guest writes
            now = time.monotonic()
            if now > watched:
                self._kernel.assure_alive()
                watched = now + _WATCHED
            self._tell(tell)
            for number, at in due.items():
                if now >= at:
                    due[number] = max(at + self.program.every[number].seconds, now)
                    self._act(self.program.every[number].block, tell)
        self._tell(tell)

    def _tell(self, tell: Callable[[TraceEvent | MapRow], None]) -> None:
        for event in self.events():
            if event.event == "map":
                self._print_map(event.text, tell)
            elif event.event != "stop":
                tell(event)

    def _print_map(self, name: str, tell: Callable[[TraceEvent | MapRow], None]) -> None:
        for row in self.maps():
            if row.map == name:
                tell(row)

    def _act(self, block: Block, tell: Callable[[TraceEvent | MapRow], None]) -> None:
        for one in block:
            if isinstance(one, Stop):
                self._ended = True
                continue
            assert isinstance(one, Effect)
            assert isinstance(one.expression, Call)
            call, (given,) = one.expression, one.expression.arguments
            if isinstance(given, Map):
                (self.clear if call.name == "clear" else partial(self._print_map, tell=tell))(given.name)
            elif isinstance(given, Text):
                tell(TraceEvent("printf", 0, given.value, ()))

    def stop(self) -> None:
        """Take the probes out; what was gathered is gone then."""
        sites, self._sites = self._sites, {}
        rows = {row.id: row for row in self._kernel.patch_table() if row.state is not PatchState.RETIRED}
        ours = [one for one in reversed(sites) if one in rows and rows[one].site == sites[one]]
        if ours:
            self._kernel.remove(*ours)


def _complaint(error: BadPatch) -> str:
    """Return what a compiler complains of, without its own places."""
    found = re.search(r"error: (.*)", str(error))
    return str(error) if found is None else found[1]
