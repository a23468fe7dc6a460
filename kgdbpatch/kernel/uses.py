"""What patches have of each other: which one must stay since another was linked against it, or points in."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

import numpy as np

from kgdbpatch.errors import Refused
from kgdbpatch.kernel.patch_names import Noted, PatchNames, title
from kgdbpatch.results import PatchState
from kgdbpatch.variables.path import name_at

if TYPE_CHECKING:
    from kgdbpatch.component.arena import Arena
    from kgdbpatch.component.table import Record

__all__ = ["needed"]


def needed(arena: Arena, records: Collection[Record], going: Collection[int]) -> dict[int, Refused]:
    """Return by id why patches of ``going`` must stay: one that stays uses them, or has their address."""
    names = PatchNames(arena)
    standing = {one.id: one for one in records if one.state is not PatchState.RETIRED}
    bodies = [one for one in standing.values() if one.id in going]
    found: dict[int, Refused] = {}
    users = [one for one in standing.values() if one.id not in going and one.noted]
    while users and bodies:
        user = users.pop()
        for record, why in _reasons(arena, names, user, bodies):
            if record.id not in found:
                told = f"{_title(names, record)} is in use: {why}"
                found[record.id] = Refused("used", told, record.site)
                users.append(record)  # it stays, and so do those that it uses
    return found


def _title(names: PatchNames, record: Record) -> str:
    found = next(names.read([record]), None)
    return title(record.id, found.name if found else "")


def _reasons(
    arena: Arena, names: PatchNames, user: Record, bodies: Collection[Record]
) -> Iterator[tuple[Record, str]]:
    """Yield (patch, why) of those that ``user`` needs."""
    raw = arena.read(user.body, user.body_size)[user.constant_size & ~3 :]
    words = np.frombuffer(raw, ">u4", len(raw) // 4).astype(np.int64)
    known = next(names.read([user])) if user.uses else None
    for record in bodies:
        if record.id == user.id:
            continue
        if known is not None and record.id in known.note.uses:
            who = title(user.id, known.name)
            yield record, f"{who} was linked against its names; take {user.id} out first"
        inside = (words >= record.body) & (words < record.body + record.body_size)
        for index in np.flatnonzero(inside).tolist():
            known = known or next(names.read([user]))
            variable = _variable(known, (user.constant_size & ~3) + 4 * index)
            if variable is not None:
                yield (
                    record,
                    f"{variable} of {title(user.id, known.name)} points into it; set that to 0 first",
                )


def _variable(user: Noted, offset: int) -> str | None:
    """Return the variable that is so many bytes behind a body's begin."""
    return name_at(user.note, user.record.body + offset - user.payload)
