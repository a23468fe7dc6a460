"""How far patches with init or exit calls are: read and written in a word of their payloads."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from kgdbpatch.component.arena import Arena
from kgdbpatch.component.data import write_data
from kgdbpatch.component.layout import Flag
from kgdbpatch.component.table import Record, Table
from kgdbpatch.errors import ComponentDamaged
from kgdbpatch.vm.ram import Readable

if TYPE_CHECKING:
    from kgdbpatch.component.client import ComponentClient
    from kgdbpatch.variables import Stage

__all__ = ["Calls", "all_begun", "begun", "exit_calls", "set_stage"]


class Calls(NamedTuple):
    """What ends a patch: where its stage is kept, the exit calls, the modules that it keeps loaded."""

    stage: int
    last: tuple[int, ...]
    holds: tuple[tuple[str, int], ...] = ()


def exit_calls(arena: Arena, record: Record) -> Calls | None:
    """Return what is called at a patch's end; None for one that has neither init nor exit calls.

    One whose note was overwritten is not known to have any.
    """
    if not record.noted:
        return None
    try:
        found = arena.note(record)
    except ComponentDamaged:
        return None
    if found is None or found[1].stage is None:
        return None
    payload, note = found
    assert note.stage is not None
    return Calls(payload + note.stage, tuple(payload + offset for offset in note.last), note.holds)


def begun(arena: Arena, record: Record) -> bool:
    """Tell whether a patch has exit calls that are to be made."""
    calls = exit_calls(arena, record)
    if calls is None or not (calls.last or calls.holds):
        return False
    return int.from_bytes(arena.read(calls.stage, 4), "big") == 1


def all_begun(arena: Arena, table: Table) -> npt.NDArray[np.bool_]:
    """Tell of each entry of a table what `begun` does."""
    found = np.zeros(len(table), np.bool_)
    may = (table.raw["flags"] & Flag.NOTED > 0) & (table.raw["flags"] & Flag.CALLED > 0)
    for index in np.flatnonzero(may).tolist():
        found[index] = begun(arena, table.record(index))
    return found


def set_stage(component: ComponentClient, arena: Arena, ram: Readable, at: int, stage: Stage) -> None:
    """Write down how far a patch is, in the word at an address."""
    write_data(component, arena, ram, at, stage.to_bytes(4, "big"))
