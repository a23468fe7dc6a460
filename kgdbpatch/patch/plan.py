"""Plan a patch: what to write where, of which exactly one word is the splice (paper 3.2.4, 3.3).

A body is: saves, payload, restores, the displaced instruction, the way back; a branch over the site enters
it. Pure: addresses and words in, a `Plan` out.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from kgdbpatch.errors import Refused
from kgdbpatch.isa import encode
from kgdbpatch.isa.registers import mask, names
from kgdbpatch.patch.count import counted_by, counting, counting_alone, counting_return, store_index
from kgdbpatch.patch.displace import back, immovable, onward, plain
from kgdbpatch.patch.entrance import Entrance, entrance, unreachable
from kgdbpatch.patch.exits import plan_exits
from kgdbpatch.patch.layout import Layout, planned
from kgdbpatch.patch.once import claim, release
from kgdbpatch.patch.payload import Payload, asm_payload, blob_payload, call_payload, count_payload
from kgdbpatch.patch.planned import Place, Plan
from kgdbpatch.patch.reach import free_gprs, jump
from kgdbpatch.patch.registers import leave_function, show
from kgdbpatch.patch.replace import plan_replacement
from kgdbpatch.patch.saves import save
from kgdbpatch.patch.site import Site

__all__ = [
    "Payload",
    "Place",
    "Plan",
    "Site",
    "asm_payload",
    "blob_payload",
    "call_payload",
    "count_payload",
    "plan",
]


class _Body(NamedTuple):
    words: list[int]
    saved: tuple[str, ...]
    tail: int
    guard: tuple[int, int] = (0, 0)


def plan(site: Site, payload: Payload, place: Place) -> Plan:
    """Plan ``payload`` at ``site`` with the body at ``place``; or `Refused`, by many rules."""
    if payload.replaces is not None:
        return plan_replacement(site, payload, payload.replaces, place)
    if place.paged and not site.trappable and not unreachable(site, place):
        raise site.refused(
            "exception return",
            f"{site.at} may lie where SRR0 or SRR1 is still to be read, and the kernel's page "
            "tables map the patches' memory: to find a page takes an exception, which overwrites both",
        )
    if payload.instead:
        site, payload = _instead(site, payload)
    forced = [*site.forced]
    for refused in _objections(site, payload):
        if not site.force:
            raise refused
        forced.append(refused.rule)
    if payload.counted and "reservation" in forced:
        raise site.refused(
            "reservation",
            f"a patch at {site.at} cannot count, forced or not: that takes the reservation "
            "which is held there each time, and the kernel would try for ever",
        )
    if payload.exits is not None:
        return plan_exits(site, payload, place, forced)
    registers = _returned_by(site, payload, place)
    way = entrance(site, place, linked=registers is not None)

    def build(blob: int, area: int) -> _Body:
        if registers is not None:
            return _linked_body(site, payload, place, way, registers)
        return _body(site, payload, place, way, blob, area)

    guarded = bool(site.once and payload.calls)
    body = build(place.body, place.body)
    layout = Layout.of(place.body, len(body.words), payload, guarded=guarded)
    if guarded or payload.blob is not None:
        body = build(layout.blob_at, layout.area)
    return planned(
        site,
        payload,
        way,
        layout,
        layout.code(body.words),
        words=len(body.words),
        tail=body.tail,
        forced=forced,
        saved=body.saved,
        guard=body.guard,
        counted=payload.counted,
    )


def _instead(site: Site, payload: Payload) -> tuple[Site, Payload]:
    """Return site and payload as they are planned where code runs instead of the site's instruction.

    What that writes is the code's to write: neither put back nor used for anything of ours.
    """
    instruction = site.instruction
    if not plain(instruction) or site.under is not None:
        why = "has a patch already" if site.under is not None else "may go on elsewhere than to the next"
        raise site.refused("entry", f"'{instruction.text}' at {site.at} {why}: no code runs instead of it")
    written = instruction.defs
    kept = payload._replace(clobbers=payload.clobbers & ~written)
    return site._replace(free=site.free - set(names(written)), once=0), kept


def _objections(site: Site, payload: Payload) -> Iterator[Refused]:
    """Yield what forbids this payload, or any, at a site."""
    objection = immovable(site)
    if objection is not None:
        yield objection
    if payload.calls and site.untranslated:
        raise site.refused(
            "untranslated", f"{site.at} runs with address translation off: nothing can be called there"
        )
    if payload.calls and site.returning:
        yield site.refused(
            "exception return",
            f"{site.at} lies between the setting of SRR0 or SRR1 and the rfi that needs them: "
            "nothing that can fault or sleep may be called there",
        )


def _body(site: Site, payload: Payload, place: Place, way: Entrance, blob: int, area: int) -> _Body:
    words = list(way.undo)
    clobbers, saved, guard = payload.clobbers, set[str](), (0, 0)
    once = bool(site.once and payload.calls)
    if payload.counted and not once and payload.registers is None and _counts_first(payload):
        alone, kept = counting_alone(site, place.counter)
        words += alone
        saved |= set(kept)
    if payload.registers is None:
        saves = save(site, clobbers, frame=payload.frame)
    else:
        saves = show(site, payload.registers, clobbers)
    words += saves.enter
    told = [] if payload.sited is None else encode.load_address(payload.sited, site.address)
    if once:
        entered = claim(area, site.once, saves.spare, 0)
        hit = counting(place.counter)
        if payload.sees_registers:
            hit += saves.as_at_the_site(12, 11, 0)
        inner = payload.emit(place.body + 4 * (len(words) + len(entered) + len(hit) + len(told)), blob)
        exits = counting(place.counter + 4)
        behind = len(entered) + len(hit) + len(told) + len(inner) + len(exits) + len(release(saves.spare))
        words += claim(area, site.once, saves.spare, behind)
        words += hit
    elif payload.counted and (payload.registers is not None or not _counts_first(payload)):
        words += counting(place.counter)
    start = len(words)
    words += told
    words += payload.emit(place.body + 4 * len(words), blob)
    if payload.calls:
        exits = counting(place.counter + 4)
        guard = (start, len(words) + store_index(exits) + 1)
        words += exits
    if once:
        words += release(saves.spare)
    if payload.registers is not None and payload.registers.returns:
        words += leave_function(site, saves)
    words += saves.leave
    if payload.instead:
        words += back(site, place.body + 4 * len(words))
    tail = len(words)  # where patches that are put over this one lead when it is gone
    words += onward(site, place.body + 4 * tail)
    ordered = [*saves.registers, *(name for name in sorted(saved) if name not in saves.registers)]
    return _Body(words, tuple(ordered), tail, guard)


def _counts_first(payload: Payload) -> bool:
    """Tell whether hits are counted before anything is saved: the payload may look at any register."""
    return payload.sees_registers or not payload.calls


def _returned_by(site: Site, payload: Payload, place: Place) -> tuple[int, int] | None:
    """Return the registers of a patch that counts behind the displaced instruction and returns by LR.

    The splice is a ``bl`` then, ``beqlr`` both test and way back, one word less. None where that cannot be.
    """
    free = site.free_after
    if place.trap is not None:
        return None  # a trap does not link
    if payload.registers is not None or site.under is not None or payload.instead:
        return None
    if not payload.counted or payload.calls or payload.clobbers & mask("lr"):
        return None
    if not plain(site.instruction) or not {"lr", "cr0"} <= free or "lr" not in site.free:
        return None
    touched = site.instruction.defs | site.instruction.uses
    if touched & mask("lr", "reservation") or len(free_gprs(free)) < 2:
        return None  # a lwarx must not be followed by our own
    if jump(site.address, place.body, frozenset()) is None and not (
        "ctr" in site.free and free_gprs(site.free)
    ):
        return None  # the springboard has better use for LR
    registers = counted_by(free)
    return registers if all(f"r{register}" in free for register in registers) else None


def _linked_body(
    site: Site, payload: Payload, place: Place, way: Entrance, registers: tuple[int, int]
) -> _Body:
    words = list(way.undo)
    unlinked = site._replace(free=site.free - {"lr"})
    saves = save(unlinked, payload.clobbers, frame=False)
    words += [*saves.enter, *payload.emit(place.body + 4 * (len(words) + len(saves.enter)), 0), *saves.leave]
    tail = len(words)
    words.append(site.instruction.word)
    words += counting_return(place.counter, registers, place.body + 4 * len(words))
    return _Body(words, saves.registers, tail)
