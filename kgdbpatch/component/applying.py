"""Put patches in, step by step: all that is written first, then the one word of each, or nothing of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from kgdbpatch.component import layout
from kgdbpatch.component.arena import Arena, Header, field_offset
from kgdbpatch.component.failures import apply_error
from kgdbpatch.component.layout import Op, State
from kgdbpatch.component.modules import ModuleSites
from kgdbpatch.component.ports import Cpu, Personality
from kgdbpatch.component.prepare import in_tails, out_of_tails, pieces, records
from kgdbpatch.component.protocol import Command, StubFailed
from kgdbpatch.component.stop import Stop
from kgdbpatch.component.table import runs
from kgdbpatch.component.traps import leading, trap_sites
from kgdbpatch.component.watched import watched
from kgdbpatch.patch.trap import Hook

if TYPE_CHECKING:
    from kgdbpatch.patch.plan import Plan
    from kgdbpatch.vm.ram import Readable

__all__ = ["Application"]


class Application:
    """Patches that are about to be put in, each into the table slot given with it; ``ids`` are theirs.

    In one stop `write` and `splice` follow each other. Where they are kept in between, in the table as
    unfinished, `drop` takes them out again. ``retired``: older patches may be collected.
    """

    def __init__(
        self,
        ram: Readable,
        cpu: Cpu,
        personality: Personality,
        arena: Arena,
        header: Header,
        plans: Sequence[tuple[int, Plan]],
        hook: Hook | None,
        basis: bytes,
        states: Callable[[Stop], list[np.void]],
    ) -> None:
        """``basis`` is the arena's that the plans were made from, ``states`` asks for every CPU's state."""
        self._ram, self._cpu, self._arena, self._header = ram, cpu, arena, header
        self._basis, self._hook, self._states = basis, hook, states
        by_slot = {slot: header.next_id + number for number, (slot, _) in enumerate(plans)}
        self.ids = [by_slot[slot] for slot, _ in plans]
        self._plans = sorted(plans, key=lambda entry: entry[0])
        used = arena.table().raw
        self._sites = ModuleSites(ram, arena.plan, used, (plan for _, plan in plans), personality)
        self._records = records(self._plans, by_slot, personality.to_physical, self._sites.number)
        self._spans = list(runs([slot for slot, _ in self._plans]))
        self._trapped = [plan for _, plan in self._plans if plan.entry == "trap"]
        self.retired = arena.any_retired

    @property
    def _code(self) -> list[tuple[int, bytes]]:
        """What is written in bulk: bodies, and springboards in their window, with physical addresses."""
        arena = self._arena
        bodies = pieces((arena.inside(plan.body), plan.code) for _, plan in self._plans)
        boards = pieces(
            (arena.springboard(plan.springboard), plan.springboard_code)
            for _, plan in self._plans
            if plan.springboard is not None and not arena.in_tails(plan.springboard)
        )
        return [*bodies, *boards]

    def _preparing(self) -> list[Command]:
        header, arena = self._header, self._arena
        next_id, slots = (
            header.arena.physical + field_offset(name, layout.HEADER) for name in ("next_id", "slots")
        )
        commands = self._cpu.mapping(header.arena, header.entries)
        commands += [Command(Op.FLUSH, at, len(code)) for at, code in self._code]
        watch = watched(self._ram, arena)
        if watch is not None:
            commands += watch.unwatched(plan.site for _, plan in self._plans)
        commands.append(Command(Op.STORE, next_id, header.next_id + len(self._plans)))
        commands.append(Command(Op.STORE, slots, max(header.slots, self._plans[-1][0] + 1)))
        hook = None if header.hook else self._hook
        commands += trap_sites(self._ram, arena, self._trapped, hook, self._cpu.hook_words)
        tails = in_tails(arena, [plan for _, plan in self._plans])
        return commands + ([*self._cpu.tails_mapping(header.arena), *tails] if tails else [])

    def write(self, stop: Stop, *, kept: bool = False) -> None:
        """Write all but the splices; ``kept``: into the table, too, as unfinished.

        Raises `Outdated` when the arena is no longer what the plans were made from, `Refused`.
        """
        arena, header = self._arena, self._header
        arena.check(self._basis)
        self._sites.check()
        watch = watched(self._ram, arena)
        if watch is not None:
            watch.leave(stop)
        if self._trapped and self._hook is not None and header.hook is None:
            for state in self._states(stop):
                self._cpu.check_hook(state, self._hook)
        for at, code in (*self._code, *self._sites.entries):
            stop.write(at, code)
        done = 0
        for first, count in self._spans:
            stop.write(arena.slot(first), self._records[done : done + count].tobytes())
            done += count
        try:
            stop.elsewhere(self._cpu.mapping(header.arena, header.entries))
        except StubFailed as error:
            raise apply_error(error, header.arena.virtual, 0) from error
        self._first = self._preparing()
        if kept:
            commands = [*self._first, *self._marked(State.PENDING)]
            self._first = []
            try:
                stop.obey(commands)
            except StubFailed as error:
                raise apply_error(error, header.arena.virtual, 0) from error

    def _marked(self, state: State) -> list[Command]:
        return [Command(Op.MARK, self._arena.slot(first), count, state) for first, count in self._spans]

    def splice(self, stop: Stop) -> None:
        """Splice them all.

        Raises `Refused` (rule ``expected``) when a site's word is not what its plan was made from; nothing is
        left behind then.
        """
        arena, prepared = self._arena, len(self._first)
        commands = [*self._first]
        commands += [Command(Op.APPLY, arena.slot(first), count) for first, count in self._spans]
        try:
            stop.obey(commands)
        except StubFailed as error:
            undo = [Command(Op.WITHDRAW, at.a, at.b) for at in commands[prepared : error.index]]
            undo.append(Command(Op.WITHDRAW, commands[error.index].a, error.done))
            self._undone(stop, undo)
            before = sum(count for _, count in self._spans[: error.index - prepared])
            plan = self._plans[min(before + error.done, len(self._plans) - 1)][1]
            raise apply_error(error, plan.site, plan.original) from error

    def drop(self, stop: Stop) -> None:
        """Take out of the table what was written and not spliced."""
        self._undone(stop, [])

    def _undone(self, stop: Stop, undo: list[Command]) -> None:
        arena = self._arena
        undo += out_of_tails(arena, self._records)
        if self._trapped:
            table = arena.table()
            left = table.select(~np.isin(table.raw["id"], self.ids))
            undo += leading(self._ram, arena, stop, left, [plan.site for plan in self._trapped])
        stop.obey([*undo, *self._marked(State.FREE)])
