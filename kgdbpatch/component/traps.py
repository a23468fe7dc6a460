"""The sites entered by a trap: a hash table in the arena, and the hook that looks them up (patch/trap.py)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from kgdbpatch.component import layout
from kgdbpatch.component.arena import Arena, field_offset
from kgdbpatch.component.layout import Op, State
from kgdbpatch.component.protocol import Command
from kgdbpatch.component.table import Table
from kgdbpatch.errors import Refused
from kgdbpatch.patch.trap import HOMES, Hook
from kgdbpatch.vm.ram import Readable

if TYPE_CHECKING:
    from kgdbpatch.component.stop import Stop
    from kgdbpatch.patch.plan import Plan

__all__ = ["Traps", "lead_traps", "leading", "trap_sites"]

_EMPTY, _GONE = 0, 1  # as sites


class Traps:
    """The hash table as it is now; changes are returned as commands for the stub.

    The hook reads on from a site's home entry to an empty one, so an entry in between that goes
    leaves a mark, and the last one of the table stays empty.
    """

    def __init__(self, ram: Readable, arena: Arena) -> None:
        self._at = arena.plan.physical + layout.TRAPS_OFFSET
        raw = ram.read(self._at, layout.TRAP_ENTRIES * layout.TRAP.itemsize)
        self._sites = np.frombuffer(raw, layout.TRAP)["site"].astype(np.int64)

    def _find(self, site: int) -> tuple[int | None, int]:
        """Return the entry of ``site``, or None, and the first one that it could have."""
        free = None
        for index in range(site // 4 % HOMES, layout.TRAP_ENTRIES - 1):
            found = int(self._sites[index])
            if found == site:
                return index, index
            if free is None and found in (_EMPTY, _GONE):
                free = index
            if found == _EMPTY:
                break
        if free is None:
            raise Refused("memory", "the table of sites that are entered by a trap is full", site)
        return None, free

    def _entry(self, index: int) -> int:
        return self._at + index * layout.TRAP.itemsize

    def put(self, site: int, body: int) -> list[Command]:
        """Let traps at ``site`` enter ``body``; raise `Refused` (rule ``memory``) when the table is full."""
        found, free = self._find(site)
        commands = [Command(Op.STORE, self._entry(free) + field_offset("body", layout.TRAP), body)]
        if found is None:
            self._sites[free] = site
            commands.append(Command(Op.STORE, self._entry(free), site))
        return commands

    def drop(self, site: int) -> list[Command]:
        """Forget a site."""
        index, _ = self._find(site)
        if index is None:
            return []
        changed = [index]
        if self._sites[index + 1] == _EMPTY:  # nobody reads on: this is an end, and so are marks before it
            while changed[-1] and self._sites[changed[-1] - 1] == _GONE:
                changed.append(changed[-1] - 1)
            mark = _EMPTY
        else:
            mark = _GONE
        self._sites[changed] = mark
        return [Command(Op.STORE, self._entry(at), mark) for at in changed]


def _hook_in(arena: Arena, hook: Hook, words: Mapping[int, int]) -> list[Command]:
    """Return the commands that write the hook, record it in the header and lead the vector to it."""
    # the last tells of a hook
    fields = {name: getattr(hook, name) for name in ("vector", "original", "shift", "scratch", "size", "at")}
    commands = [Command(Op.STORE, at - hook.shift, word) for at, word in words.items()]
    commands.append(Command(Op.FLUSH, hook.at - hook.shift, hook.size))
    commands += [Command(Op.STORE, _header(arena, f"hook_{name}"), value) for name, value in fields.items()]
    return [*commands, Command(Op.SPLICE, hook.vector - hook.shift, hook.original, hook.splice)]


def _hook_out(ram: Readable, arena: Arena, hook: Hook) -> list[Command]:
    """Return the commands that give the vector back and leave no trace of the hook.

    A vector that something else has written to by now is left alone. The guest is stopped.
    """
    vector = hook.vector - hook.shift
    ours = int.from_bytes(ram.read(vector, 4), "big") == hook.splice
    return [
        *([Command(Op.SPLICE, vector, hook.splice, hook.original)] if ours else []),
        *(Command(Op.STORE, at - hook.shift, 0) for at in hook.span),
        Command(Op.FLUSH, hook.at - hook.shift, hook.size),
        Command(Op.STORE, _header(arena, "hook_at"), 0),
    ]


def _header(arena: Arena, name: str) -> int:
    return arena.plan.physical + field_offset(name, layout.HEADER)


def trap_sites(
    ram: Readable,
    arena: Arena,
    plans: Sequence[Plan],
    hook: Hook | None,
    code: Callable[[Hook], Mapping[int, int]],
) -> list[Command]:
    """Return the commands that let the sites of ``plans`` be entered by a trap, all but the splices.

    ``hook`` is to be put in, where there is none yet; ``code`` is `Cpu.hook_words`.
    """
    if not plans:
        return []
    traps = Traps(ram, arena)
    commands = [command for plan in plans for command in traps.put(plan.site, plan.body)]
    return commands if hook is None else [*commands, *_hook_in(arena, hook, code(hook))]


def lead_traps(
    ram: Readable, arena: Arena, left: Table, sites: Iterable[int], hook: Hook | None
) -> list[Command]:
    """Return the commands that let traps at ``sites`` enter what is ``left`` of the patch table.

    When no patch is left that is entered by a trap, the vector gets its own word back: ``hook`` goes.
    """
    left = left.select(left.trapped())
    live = left.raw["state"] != State.RETIRED
    order = np.lexsort((left.raw["id"], live))  # the newest that is not retired comes last
    bodies = dict(zip(left.raw["site"][order].tolist(), left.raw["body"][order].tolist(), strict=True))
    traps = Traps(ram, arena)
    commands: list[Command] = []
    for site in sites:
        commands += traps.put(site, bodies[site]) if site in bodies else traps.drop(site)
    return commands if bodies or hook is None else [*commands, *_hook_out(ram, arena, hook)]


def leading(ram: Readable, arena: Arena, stop: Stop, left: Table, sites: Iterable[int]) -> list[Command]:
    """As `lead_traps`, with the hook that is in now, which stays while a trap is on its way."""
    header = Arena.header(ram, arena.plan.physical)
    assert header is not None
    busy = header.hook is not None and bool(stop.trapped(header.hook))
    return lead_traps(ram, arena, left, sites, None if busy else header.hook)
