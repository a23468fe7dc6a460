"""What a list of patches tells beyond the table: who holds what is retired, whence each is, since when."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import starmap
from typing import TYPE_CHECKING

from kgdbpatch.errors import ComponentDamaged
from kgdbpatch.kernel.held_modules import Held
from kgdbpatch.kernel.removal import as_patch, counts_block
from kgdbpatch.results import Holder, PatchRow, PatchState

if TYPE_CHECKING:
    from kgdbpatch.component.arena import Arena
    from kgdbpatch.component.table import Record
    from kgdbpatch.kernel.updates import Updates

__all__ = ["listed"]

_MOST_NOTES = 500  # patches whose notes are read: more of one source tell nothing new


def listed(
    arena: Arena,
    records: Sequence[Record],
    held: dict[int, tuple[Holder, ...]],
    updates: Updates,
    lost: Callable[[Sequence[Held]], tuple[str, ...]],
) -> list[PatchRow]:
    """Return the rows of a patch table; ``held`` tells who holds the retired ones.

    ``lost`` returns which modules are loaded no more.
    """
    parts = {}
    if any(record.update for record in records):
        parts = {patch: row for row in updates for patch in row.ids}
    noted = [record.id for record in records if record.noted][:_MOST_NOTES]
    rows, blocks = [], [record for record in records if counts_block(record)]
    for record in records:
        if counts_block(record) and record is not blocks[0]:
            continue
        row = replace(as_patch(record), held_by=held.get(record.id, ()), skipped=arena.skipped(record))
        part = parts.get(record.id)
        if part is not None:
            row = replace(row, update=part.name, file=part.file, since=part.since)
        elif record.id in noted:
            row = _noted(row, arena, record, lost)
        if counts_block(record):
            ran = sum(1 for one in blocks if one.hits)
            row = replace(row, coverage=f"{ran} of {len(blocks)} blocks run", hits=None)
        elif record.coverage is not None and record.state is not PatchState.RETIRED:
            row = replace(row, coverage=arena.watched_blocks())
        rows.append(row)
    return rows


def _noted(
    row: PatchRow, arena: Arena, record: Record, lost: Callable[[Sequence[Held]], tuple[str, ...]]
) -> PatchRow:
    try:
        found = arena.note(record)
    except ComponentDamaged:  # `verify` tells of it
        return row
    if found is None:
        return row
    note = found[1]
    row = replace(row, file=note.source, since=float(note.time))
    if not note.holds or row.state is PatchState.RETIRED:
        return row
    held = [*starmap(Held, note.holds)]
    return replace(row, holds=tuple(one.name for one in held), lost=lost(held))
