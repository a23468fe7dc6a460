"""Map the arena by the kernel's own page tables, where it leaves the CPU's BATs to nobody else."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kgdbpatch.errors import Refused
from kgdbpatch.kernel.reservation import PAGE
from kgdbpatch.personality.base import ArenaPlan, Pager, Window

if TYPE_CHECKING:
    from kgdbpatch.component import ComponentClient
    from kgdbpatch.kernel.reservation import Reservation

__all__ = ["page_entries"]

_SIZE = 4096

Pages = list[tuple[int, bytes]]


def page_entries(
    component: ComponentClient, reservation: Reservation, pager: Pager | None, arena: ArenaPlan
) -> Pages:
    """Return what to write into the kernel's page tables (physical address, bytes) for an arena.

    That is nothing where BATs map all of it. The kernel allocates the tables that it lacks, which it keeps.
    Raises `Refused` (rule ``mapping``) where neither will do, and as `Calls`.
    """
    windows = [Window(arena.virtual, arena.virtual + arena.size), arena.near]
    if pager is None or not all(one is None or one in reservation.kept() for one in windows):
        return []  # nothing has been called: no stub is there yet that could be asked
    bats = component.bats(arena, paged=True)
    blocks = [one for one, pair in zip(windows, bats, strict=False) if one is not None and pair.data is None]
    if not blocks:
        return []
    calls = reservation.calls
    for window in blocks:
        for call in pager.tables(window):
            calls(call.function, *call.arguments)
    sample = pager.sample()
    page = calls(sample.function, *sample.arguments, keeps=(PAGE, Window(0, _SIZE)))
    last = arena.physical + arena.size
    found = [pager.entries(one, last - (one.end - one.start), page) for one in blocks]
    calls(*_flat(pager, page), keeps=(PAGE, None))
    if not all(found):
        raise Refused(
            "mapping", "no BAT is left for the arena, and the kernel's page tables are not understood"
        )
    return [piece for pieces in found for piece in pieces]


def _flat(pager: Pager, page: int) -> tuple[int, ...]:
    call = pager.free(page)
    return call.function, *call.arguments
