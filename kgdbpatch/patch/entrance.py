"""How a site leads to a body: a branch, a springboard, a trap; the splice word of each (paper 3.3.4)."""

from __future__ import annotations

from typing import NamedTuple

from kgdbpatch.patch.planned import Place
from kgdbpatch.patch.reach import jump, springboard
from kgdbpatch.patch.site import Site

__all__ = ["Entrance", "entrance", "unreachable"]


class Entrance(NamedTuple):
    """How a body is entered: the splice word, the springboard, what the body must undo of it."""

    splice: int
    springboard: int | None = None
    words: tuple[int, ...] = ()
    undo: tuple[int, ...] = ()
    saved: tuple[str, ...] = ()


def unreachable(site: Site, place: Place) -> bool:
    """Tell whether the site runs untranslated and nothing leads to a body from there."""
    return site.untranslated and place.real is None


def entrance(site: Site, place: Place, *, linked: bool) -> Entrance:
    """Return how the body is entered; ``linked`` leaves the address behind the site in LR."""
    if place.trap is not None:
        if not site.trappable or site.untranslated:
            raise site.refused(
                "exception return",
                f"{site.at} cannot be entered by a trap: SRR0 and SRR1 are still to be read there",
            )
        return Entrance(place.trap)
    if unreachable(site, place):
        raise site.refused(
            "untranslated",
            f"{site.at} runs with address translation off: only a springboard in a vector's tail "
            "leads to a patch from there (--via tails; not on every kernel)",
        )
    link = int(linked)
    direct = jump(site.address, place.body, frozenset())
    if direct is not None:
        return Entrance(direct[0] | link)
    if place.springboard is None:
        raise site.refused("springboard", f"no springboard is left within reach of {site.at}")
    entered_at = place.real if site.untranslated and place.real is not None else place.springboard
    to_springboard = jump(site.address, entered_at, frozenset())
    if to_springboard is None:
        raise site.refused("reach", f"the springboards are out of branch reach of {site.at}")
    free = site.free - {"lr"} if linked else site.free
    board = springboard(place.springboard, place.body, site, free)
    return Entrance(
        to_springboard[0] | link, place.springboard, tuple(board.words), tuple(board.undo), board.saved
    )
