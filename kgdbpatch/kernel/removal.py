"""Which patches are taken out, and what became of each."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from typing import NamedTuple

from kgdbpatch.component import ComponentClient, Header
from kgdbpatch.component.table import Record
from kgdbpatch.errors import Misuse, Refused
from kgdbpatch.results import PatchRow, PatchState

__all__ = ["Removal", "as_patch", "counts_block", "take_out"]


class Removal(NamedTuple):
    """What a removal did: ``patches`` in their new states, and why others were left in.

    ``removed``, ``retired`` (memory is still in use), ``dropped`` (the record only; its site is left alone).
    """

    patches: tuple[PatchRow, ...]
    refused: tuple[Refused, ...]

    @property
    def retired(self) -> list[int]:
        """The ids of those whose memory is still in use."""
        return [patch.id for patch in self.patches if patch.state is PatchState.RETIRED]


def counts_block(record: Record) -> bool:
    """Tell whether a patch is one of many that belong together: the counters of a coverage that stand."""
    return record.coverage == "exact" and record.state is not PatchState.RETIRED


def as_patch(record: Record) -> PatchRow:
    """Return an entry of the patch table as users see it."""
    hits = record.hits if record.counted else None
    return PatchRow(
        record.id,
        record.site,
        record.state,
        hits,
        record.entry,
        record.forced,
        module=record.module,
        exits=record.exits,
    )


def take_out(
    component: ComponentClient,
    header: Header,
    basis: bytes,
    ids: Collection[int] | None,
    end: Callable[[], None] = lambda: None,
    *,
    force: bool = False,
) -> Removal:
    """Take the patches ``ids``, or all, out of a guest that is held exclusively, in one stop.

    A damaged one is refused: of all, the others go nevertheless; of named ones, none. ``force`` drops its
    record and leaves its site. So is one that a patch which stays uses. ``end`` makes the exit calls that are
    due. Raises `Misuse` for an id that the
    table lacks.
    """
    table = component.arena(header.arena).table()
    records = {record.id: record for record in table.records()}
    for patch_id in ids or ():
        if patch_id not in records:
            raise Misuse(f"the guest has no patch {patch_id}")
    wanted = set(records if ids is None else ids)
    blocks = [patch_id for patch_id, record in records.items() if counts_block(record)]
    if wanted & {*blocks}:  # they come and go together, and are told as one
        wanted |= {*blocks}
    damaged = {patch_id for patch_id in wanted if records[patch_id].state is PatchState.DAMAGED}
    refused = [] if force else [_refusal(records[patch_id]) for patch_id in sorted(damaged)]
    staying = set[int]() if force else damaged
    in_use = dict[int, Refused]()
    if any(record.noted for record in records.values()):
        from kgdbpatch.kernel.uses import needed  # on use: it takes time to import

        in_use = needed(component.arena(header.arena), records.values(), wanted - staying)
    refused += [in_use[patch_id] for patch_id in sorted(in_use)]
    if refused and ids is not None:
        raise refused[0]
    wanted -= staying | in_use.keys()
    held = set(component.remove(header, table, wanted, basis))
    if component.due:
        end()
        held &= {record.id for record in component.arena(header.arena).records()}

    def state(patch_id: int) -> PatchState:
        if patch_id in held:
            return PatchState.RETIRED
        return PatchState.DROPPED if patch_id in damaged else PatchState.REMOVED

    order = sorted(wanted - {*blocks[1:]}) if ids is None else list(dict.fromkeys(ids))
    patches = tuple(replace(as_patch(records[patch_id]), state=state(patch_id)) for patch_id in order)
    return Removal(patches, tuple(refused))


def _refusal(record: Record) -> Refused:
    return Refused(
        "expected",
        f"patch {record.id} is damaged: the word at 0x{record.site:08x} is neither its own nor the original "
        "one; --force drops its record and leaves the word",
        record.site,
    )
