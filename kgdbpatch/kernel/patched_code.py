"""The code of patches as it lies in a guest: which words of it are what."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from kgdbpatch.component.layout import SPRINGBOARD_SIZE, Flag
from kgdbpatch.errors import KgdbPatchError
from kgdbpatch.isa import encode

if TYPE_CHECKING:
    from kgdbpatch.component.arena import Arena
    from kgdbpatch.component.table import Record

__all__ = ["Piece", "pieces"]

_ALIGNMENT = 16  # bytes: of what stands behind a body's glue


class Piece(NamedTuple):
    """Words of a patch: where they begin and end, what they are; ``title`` is how they are headed.

    One that is ``padded`` begins with room that was not needed.
    """

    start: int
    end: int
    part: str
    title: str
    padded: bool = False


def pieces(arena: Arena, record: Record, updated: Sequence[tuple[int, int, str, str]] = ()) -> list[Piece]:
    """Return what a patch consists of, in the order in which it is run; empty ones are left out.

    ``updated`` are the new functions of updates (`Places.updated`).
    """
    found = [*_board(record), *(_body(arena, record, updated) if not record.data else ())]
    return [one for one in found if one.start < one.end]


def _board(record: Record) -> Iterator[Piece]:
    if record.springboard is not None:
        end = record.springboard + SPRINGBOARD_SIZE * record.springboard_slots
        yield Piece(record.springboard, end, "springboard", f"springboard of patch {record.id}")


def _body(arena: Arena, record: Record, updated: Sequence[tuple[int, int, str, str]]) -> Iterator[Piece]:
    table = arena.table()
    (index,) = np.flatnonzero(table.slots == record.slot)[:1]
    raw, at = table.raw[index], record.body
    start, end, tail, glue = (
        at + 4 * int(raw[name]) for name in ("guard_start", "guard_end", "tail", "glue_words")
    )
    constant, title = at + record.constant_size, f"patch {record.id}: "
    replaces = bool(int(raw["flags"]) & Flag.REPLACES) and record.exits is None
    if replaces:
        yield from _replacing(record, tail, glue, constant, updated)
        return
    if record.calls:
        end += 4  # the guard ends with the store of what counts; a branch belongs to it
        yield Piece(at, start, "saves", title + "what is saved, hits counted")
        yield Piece(start, end, "payload", title + "the payload, or its call")
        yield Piece(end, tail, "restores", title + "what is put back")
    elif record.exits is not None:
        yield Piece(at, tail, "payload", title + "a frame of its own, the function called, its return")
    else:
        yield Piece(at, tail, "payload", title + "the payload, with what is saved and put back")
    yield Piece(tail, glue, "displaced", title + "the displaced instruction, and the way on")
    code = -(-glue // _ALIGNMENT) * _ALIGNMENT
    with suppress(KgdbPatchError):  # a damaged note: its begin is reckoned
        note = arena.note(record)
        code = note[0] if note is not None else code
    yield Piece(code, constant, "code", title + "the payload's functions and constants")


def _replacing(
    record: Record, tail: int, glue: int, constant: int, updated: Sequence[tuple[int, int, str, str]]
) -> Iterator[Piece]:
    """Yield the pieces of what takes a function's place: an update has a note and room of its own."""
    title = f"patch {record.id}: "
    own = [row for row in updated if record.body <= row[0] < record.body + record.body_size]
    led_to = encode.branch_target(record.site, record.splice)
    theirs = [row for row in updated if row[0] == led_to]  # in the body of the update's first patch
    spans = [(start, end, f"{name} of the update '{update}'") for start, end, name, update in own or theirs]
    spans = spans or [(record.body, constant, "the new function, what it calls, and constants")]
    for start, end, what in spans:
        if start <= tail < end:  # room for what was at the site stands between functions
            yield Piece(start, tail, "code", title + what)
            yield Piece(glue, end, "code", title + f"more of {what}", padded=True)
        else:
            yield Piece(start, end, "code", title + what)
    yield Piece(tail, glue, "displaced", title + "what was at the site, and the way back")
