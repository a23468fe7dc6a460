"""Updates of a running kernel: put in all at once at a safe moment, listed, taken out again."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from kgdbpatch.component.notes import Note
from kgdbpatch.component.stages import Calls as ExitCalls
from kgdbpatch.errors import ComponentDamaged, Misuse, Refused, TargetTimeout
from kgdbpatch.kernel.lifetime import begin, check_callable, make_exit_calls
from kgdbpatch.kernel.safe_moment import Ranges, stacks_of
from kgdbpatch.results import PatchState, UpdateRow

if TYPE_CHECKING:
    from kgdbpatch.component import Header
    from kgdbpatch.component.stop import Stop
    from kgdbpatch.component.table import Record
    from kgdbpatch.kernel.kernel import Kernel
    from kgdbpatch.kernel.update_plan import PlannedUpdate, Row
    from kgdbpatch.updates.archive import Update

__all__ = ["Standing", "Updater", "standing"]

_SOON, _LATE = 0.01, 0.25  # seconds between two moments that are tried
_CALL = 10.0  # seconds that a callback may take
_ALONE = 2.0  # and one during which nothing else runs, no interrupt either
_AT_PLACE = 1.0  # seconds in which somebody is to make a system call, before another moment is tried
_TOLD = 3  # blockers that are named


class Standing(NamedTuple):
    """An update that is in the guest: what `Kernel.updates` tells, its new functions and callbacks."""

    row: UpdateRow
    new: list[Row]
    calls: dict[str, int]
    file: bytes
    names: dict[str, int]  # of its own variables and functions
    uses: tuple[str, ...]  # names of the updates whose names it needs
    consistency: str
    ends: ExitCalls | None  # what is called when it is gone


def standing(records: Iterable[Record], read: Callable[[int, int], bytes]) -> list[Standing]:
    """Return the updates in a patch table, oldest first; ``read(body, size)`` gives a body.

    One whose note was overwritten is left out: its patches are told as damaged.
    """
    known = {record.id: record for record in records}
    found = []
    for record in known.values():
        if not record.update or record.state is PatchState.RETIRED:
            continue
        try:
            note = Note.unpacked(read(record.body, record.constant_size))
        except ComponentDamaged:
            continue
        values, count = note.values, len(note.values["new"])
        ids = tuple(range(record.id, record.id + values["count"]))
        pairs = zip(note.addresses[: 2 * count : 2], note.addresses[1 : 2 * count : 2], strict=True)
        new = [(start, end, name) for (start, end), name in zip(pairs, values["new"], strict=True)]
        states = {known[one].state for one in ids if one in known}
        state = next(iter(states)) if len(states) == 1 else PatchState.DAMAGED
        row = UpdateRow(
            values["name"],
            tuple(one for one in ids if one in known),
            state,
            values["file"],
            values["since"],
            values["sha256"],
            tuple(values["functions"]),
            tuple(values["data"]),
            values["forced"],
        )
        rest = note.addresses[2 * count :]
        calls = dict(zip(values["calls"], rest, strict=False))
        own = rest[len(calls) :]
        names = dict(zip(values["names"], own, strict=False))
        last = own[len(names) :]
        ends = ExitCalls(last[0], tuple(last[1:])) if last else None
        uses, consistency = tuple(values["uses"]), values["consistency"]
        found.append(Standing(row, new, calls, note.file, names, uses, consistency, ends))
    return found


class Updater:
    """Puts updates into one kernel and takes them out; ``wait`` seconds for the safe moment.

    With ``force`` nobody is waited for: who is inside goes on in the version that he entered.
    """

    def __init__(
        self,
        kernel: Kernel,
        wait: float,
        *,
        force: bool = False,
        progress: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._kernel, self._wait, self._force, self._say = kernel, wait, force, progress
        self._component, self._calls = kernel._component, kernel._calls
        self.pause = 0.0  # seconds that the guest stood still for the change itself

    # ---- apply ---------------------------------------------------------------------------------

    def apply(self, update: Update, raw: bytes, path: Path, header: Header, basis: bytes) -> UpdateRow:
        """Put an update in, read from ``path`` as ``raw``; the guest is held. As `Kernel.apply_update`."""
        from kgdbpatch.kernel.update_plan import UpdatePlanner

        kernel, manifest = self._kernel, update.manifest
        self._force |= manifest.consistency == "call"
        sha256 = hashlib.sha256(raw).hexdigest()
        older = [one for one in self.standing() if one.row.state is PatchState.ACTIVE]
        same = next((one for one in older if one.row.name == manifest.name), None)
        if same is not None and same.row.sha256 == sha256:
            return same.row
        goes = [
            one
            for one in older
            if one is same or one.row.name in manifest.supersedes or "*" in manifest.supersedes
        ]
        planner = kernel._planner(header)
        target = kernel._cpu.target
        names = {name: (at, one.row.name) for one in older for name, at in one.names.items()}
        maker = UpdatePlanner(update, path, kernel.image, planner, target, self._word, names)
        values = {
            "name": manifest.name,
            "file": str(path),
            "since": round(time.time(), 3),
            "sha256": sha256,
            "forced": self._force,
            "consistency": manifest.consistency,
        }
        self._say(f"linking {manifest.name}")
        planned = maker.plan(values, raw)
        for one in goes:
            self._check_unused(one, [*(other for other in older if other not in goes)], maker.uses)
        old = planned.old + self._versions(older, planned)
        application = self._component.application(header, planned.planned, kernel._text.hook, basis)
        if planned.calls:
            self._calls.prepare()
        if planned.first:
            check_callable(kernel, [planned.first])
        with self._component.stop(header.arena, anywhere=True) as stop:
            application.write(stop, kept=True)
        try:
            if planned.first:
                self._say("making init calls")
                begin(kernel, header, planned.first)
            self._veto(planned.calls, "pre_apply", manifest.name)

            def change(stop: Stop) -> None:
                self._transform(stop, planned.calls, "transform", manifest.name)
                application.splice(stop)
                if goes:
                    table = self._component.arena(header.arena).table()
                    gone = {patch for one in goes for patch in one.row.ids}
                    self._component.withdraw(header, stop, table, gone)

            self._at_safe_moment(header, Ranges(old), change, places="transform" in planned.calls)
        except TargetTimeout:  # somebody may be in the new code
            table = self._component.arena(header.arena).table()
            self._component.remove(header, table, set(application.ids))
            raise
        except BaseException:
            self._end(header, next(iter(self._of(application.ids[0])), None))
            with self._component.stop(header.arena, anywhere=True) as stop:
                application.drop(stop)
            raise
        self._after(planned.calls, "post_apply")
        for one in goes:
            self._end(header, one)
        if goes:
            with self._component.stop(header.arena) as stop:
                self._component.collect(header, stop)
        return next(one.row for one in self.standing() if one.row.ids[0] == application.ids[0])

    def _versions(self, older: list[Standing], planned: PlannedUpdate) -> list[Row]:
        """Return the new functions of those updates that this one is put over: nobody may be in them."""
        sites = {plan.site for _, plan in planned.planned}
        at = {record.id: record.site for record in self._kernel.records()}
        return [row for one in older if any(at.get(i) in sites for i in one.row.ids) for row in one.new]

    def _word(self, address: int) -> int:
        physical = self._kernel._text.to_physical(address)
        if physical is None:
            raise Refused("memory", f"the kernel has no memory of its own at 0x{address:08x}", address)
        return int.from_bytes(self._kernel.qemu.ram.read(physical, 4), "big")

    # ---- remove --------------------------------------------------------------------------------

    def remove(self, name: str, header: Header) -> UpdateRow:
        """Take an update out; the guest is held. As `Kernel.remove_update`."""
        one = self.find(name)
        self._force |= one.consistency == "call"
        self._check_unused(one, self.standing())
        self._veto(one.calls, "pre_remove", name)

        arena = self._component.arena(header.arena)
        table, basis = arena.table(), arena.basis()

        def change(stop: Stop) -> None:
            self._transform(stop, one.calls, "revert", name)
            self._component.withdraw(header, stop, table, set(one.row.ids), basis)

        self._at_safe_moment(header, Ranges(one.new), change, places="revert" in one.calls)
        self._after(one.calls, "post_remove")
        self._end(header, one)
        with self._component.stop(header.arena) as stop:
            self._component.collect(header, stop)
        return one.row

    def standing(self) -> list[Standing]:
        """Return the updates in the guest, oldest first."""
        kernel = self._kernel
        arena = self._component.arena(kernel._header().arena)
        read = kernel.qemu.ram.read
        return standing(arena.records(), lambda body, size: read(arena.inside(body), size))

    def _of(self, patch_id: int) -> Iterator[Standing]:
        """Yield the update that begins with a patch, be it not whole."""
        return (one for one in self.standing() if one.row.ids[:1] == (patch_id,))

    def _end(self, header: Header, one: Standing | None) -> None:
        """Make the exit calls of an update that nobody is in any more, if its init calls were made."""
        if one is not None and one.ends is not None:
            self._say("making exit calls")
            make_exit_calls(self._kernel, header, one.ends)

    def find(self, name: str) -> Standing:
        """Return the update of a name; raise `Misuse`."""
        known = [one for one in self.standing() if one.row.state is PatchState.ACTIVE]
        for one in reversed(known):
            if one.row.name == name:
                return one
        there = ", ".join(one.row.name for one in known) or "none"
        raise Misuse(f"guest '{self._kernel.name}' has no update '{name}'; it has: {there}")

    @staticmethod
    def _check_unused(one: Standing, others: Iterable[Standing], uses: Collection[str] = ()) -> None:
        """Raise `Refused` (rule ``used``) where another update that stays needs the names of one."""
        name = one.row.name
        user = next((other.row.name for other in others if name in other.uses), None)
        if user is not None or name in uses:
            who = f"the update '{user}'" if user else "what is to take its place"
            raise Refused("used", f"{who} uses what the update '{name}' has: that stays as long")

    # ---- the safe moment -----------------------------------------------------------------------

    def _at_safe_moment(
        self, header: Header, old: Ranges, change: Callable[[Stop], None], *, places: bool
    ) -> None:
        """Make a change in a stop in which nobody is in the functions ``old``.

        ``places``: by a thread that can be lent. Raises `Refused` (rule ``safe moment``), who is inside
        named, when there is none within the time.
        """
        if not self._force and not any(True for _ in self._kernel._threads.all()):
            why = "this kernel's threads are not found, so nobody can say who is inside; --force does not ask"
            raise Refused("safe moment", why)
        end, pause, told, done = time.monotonic() + self._wait, _SOON, "", False
        while not done:
            still = time.perf_counter()
            try:
                with self._component.stop(header.arena, anywhere=not places) as stop:
                    if places or (self._any_process(stop) and not self._force):
                        self._to_place(stop, must=places)
                        still = time.perf_counter()  # it ran up to here
                    blockers = (
                        [] if self._force else stacks_of(self._kernel, stop.registers_of_all()).blockers(old)
                    )
                    if not blockers:
                        change(stop)
                        done = True
                    told = "; ".join(map(str, blockers[:_TOLD]))
            except TargetTimeout as error:
                told = told or str(error)
            if not done and time.monotonic() > end:
                raise Refused(
                    "safe moment", f"not within {self._wait:g} s: {told}; give it longer, or --force"
                )
            if not done:
                self._say(f"waiting: {told}")
                time.sleep(pause)  # nobody tells when a thread leaves a function
                pause = min(2 * pause, _LATE)
        self.pause = time.perf_counter() - still

    def _any_process(self, stop: Stop) -> bool:
        """Tell whether a CPU runs a process: which thread's stack is empty then is not known."""
        return any(self._kernel._cpu.in_process(cpu["msr"]) for cpu in stop.registers_of_all())

    def _to_place(self, stop: Stop, *, must: bool) -> None:
        """Let a process come to its system call's entry: it is known then who has the CPU."""
        place = self._calls.place()
        if place is None:
            return
        try:
            stop.to_place(place, _AT_PLACE)
        except TargetTimeout:
            if must:
                raise

    # ---- callbacks -----------------------------------------------------------------------------

    def _veto(self, calls: dict[str, int], name: str, update: str) -> None:
        if name in calls:
            self._say(f"calling {name}")
            answer = self._calls.own(calls[name], deadline=_CALL)
            self._obey(answer, name, update)

    @staticmethod
    def _obey(answer: int, name: str, update: str) -> None:
        if answer:
            number = answer - (1 << 32) if answer >> 31 else answer
            raise Refused("veto", f"{name} of update '{update}' says no: it returned {number}")

    def _transform(self, stop: Stop, calls: dict[str, int], name: str, update: str) -> None:
        if name not in calls:
            return
        try:
            answer = self._calls.alone(stop, calls[name], deadline=_ALONE)
        except TargetTimeout as error:
            told = f"{name} of update '{update}' has not returned within {_ALONE:g} s: it was broken off"
            raise Refused("veto", told) from error
        self._obey(answer, name, update)

    def _after(self, calls: dict[str, int], name: str) -> None:
        if name in calls:
            self._say(f"calling {name}")
            self._calls.own(calls[name], deadline=_CALL)
