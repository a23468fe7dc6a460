"""Plan a patch: what to write where, of which exactly one word is the splice (paper 3.2.4, 3.3).

A body is: saves, payload, restores, the displaced instruction, the way back; a branch over the site enters
it. Pure: addresses and words in, a `Plan` out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from kgdbpatch.errors import Refused
from kgdbpatch.isa import encode
from kgdbpatch.isa.registers import mask
from kgdbpatch.patch.count import counted_by, counting, counting_alone, counting_return, store_index
from kgdbpatch.patch.displace import displace, immovable, plain
from kgdbpatch.patch.once import AREA, claim, release
from kgdbpatch.patch.payload import Payload, asm_payload, blob_payload, call_payload, count_payload
from kgdbpatch.patch.reach import free_gprs, jump, springboard
from kgdbpatch.patch.saves import save
from kgdbpatch.patch.site import Site
from kgdbpatch.patch.trap import is_trap

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


_SLOT_WORDS = 4  # springboards are allotted in slots of lis, ori, mtctr, bctr


class Place(NamedTuple):
    """Guest virtual addresses for a plan: body, springboard (None: none to be had), hit counter.

    With a ``trap`` the site is entered by that word. ``real`` is where the springboard is with translation
    off (the body is at its usual address then). ``paged``: an access to body or counter may take an
    exception.
    """

    body: int
    springboard: int | None
    counter: int
    trap: int | None = None
    real: int | None = None
    paged: bool = False


class Plan(NamedTuple):
    """All writes of one patch; addresses are guest virtual, code is big-endian."""

    site: int
    original: int
    splice: int
    body: int
    code: bytes
    constant_size: int  # leading bytes of ``code`` that never change
    body_words: int  # glue and inline payload, without a C blob
    saved: tuple[str, ...]
    springboard: int | None
    springboard_code: bytes
    guard: tuple[int, int]  # words of the body within which hits - exits counts threads
    counted: bool
    tail: int  # words of the body before the moved instruction
    onward: int  # words of the body before the jump to an older patch of the site, or 0
    forced: tuple[str, ...] = ()  # rules that it goes against
    warnings: tuple[str, ...] = ()  # what whoever asked for it should know
    guarded: bool = False  # a thread inside the payload passes the site without it (patch/once.py)

    @property
    def springboard_used(self) -> bool:
        """Whether the splice goes through the springboard."""
        return bool(self.springboard_code)

    @property
    def entry(self) -> str:
        """How the site leads to the body: ``branch``, ``springboard`` or ``trap``."""
        return "trap" if is_trap(self.splice) else "springboard" if self.springboard_code else "branch"


class _Entrance(NamedTuple):
    """How a body is entered: the splice word, the springboard, what the body must undo of it."""

    splice: int
    springboard: int | None = None
    words: tuple[int, ...] = ()
    undo: tuple[int, ...] = ()
    saved: tuple[str, ...] = ()


class _Body(NamedTuple):
    words: list[int]
    saved: tuple[str, ...]
    tail: int
    guard: tuple[int, int] = (0, 0)


def _bytes(words: Sequence[int]) -> bytes:
    return b"".join(word.to_bytes(4, "big") for word in words)


def plan(site: Site, payload: Payload, place: Place) -> Plan:
    """Plan ``payload`` at ``site`` with the body at ``place``; or `Refused`, by many rules."""
    if place.paged and not site.trappable:
        raise site.refused(
            "exception return",
            f"{site.at} may lie where SRR0 or SRR1 is still to be read, and the kernel's page "
            "tables map the patches' memory: to find a page takes an exception, which overwrites both",
        )
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
    registers = _returned_by(site, payload, place)
    entrance = _entrance(site, place, linked=registers is not None)

    def build(blob: int, area: int) -> _Body:
        if registers is not None:
            return _linked_body(site, payload, place, entrance, registers)
        return _body(site, payload, place, entrance, blob, area)

    body = build(place.body, place.body)
    size = constant = 4 * len(body.words)  # does not depend on where the rest is: it is near
    blob_at, blob, guarded = place.body, b"", bool(site.once and payload.calls)
    if payload.blob is not None:
        blob_at += -(-size // 16) * 16
        blob, blob_constant = payload.blob(blob_at)
        size, constant = blob_at - place.body + len(blob), blob_at - place.body + blob_constant
    area = place.body + -(-size // 16) * 16
    if guarded or payload.blob is not None:
        body = build(blob_at, area)
    code = _bytes(body.words)
    if payload.blob is not None:
        code = code.ljust(blob_at - place.body, b"\0") + blob
    if guarded:
        code = code.ljust(area - place.body, b"\0") + bytes(AREA)
    board, nop = entrance.words, encode.nop()
    return Plan(
        site=site.address,
        original=site.word,
        splice=entrance.splice,
        body=place.body,
        code=code,
        constant_size=constant,
        body_words=len(body.words),
        saved=tuple(dict.fromkeys((*entrance.saved, *body.saved))),
        springboard=entrance.springboard,
        springboard_code=_bytes([*board, *[nop] * (-len(board) % _SLOT_WORDS)]),
        guard=body.guard,
        counted=payload.counted,
        tail=body.tail,
        onward=body.tail if site.under is not None else 0,
        forced=tuple(forced),
        warnings=payload.warnings,
        guarded=guarded,
    )


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


def _body(site: Site, payload: Payload, place: Place, entrance: _Entrance, blob: int, area: int) -> _Body:
    words = list(entrance.undo)
    clobbers, saved, guard = payload.clobbers, set[str](), (0, 0)
    once = bool(site.once and payload.calls)
    if payload.counted and not once and (payload.sees_registers or not payload.calls):
        alone, kept = counting_alone(site, place.counter)
        words += alone
        saved |= set(kept)
    saves = save(site, clobbers, frame=payload.frame)
    words += saves.enter
    if once:
        entered = claim(area, site.once, saves.spare, 0)
        hit = counting(place.counter)
        if payload.sees_registers:
            hit += saves.as_at_the_site(12, 11, 0)
        inner = payload.emit(place.body + 4 * (len(words) + len(entered) + len(hit)), blob)
        exits = counting(place.counter + 4)
        behind = len(entered) + len(hit) + len(inner) + len(exits) + len(release(saves.spare))
        words += claim(area, site.once, saves.spare, behind)
        words += hit
    elif payload.calls and not payload.sees_registers:
        words += counting(place.counter)
    start = len(words)
    words += payload.emit(place.body + 4 * len(words), blob)
    if payload.calls:
        exits = counting(place.counter + 4)
        guard = (start, len(words) + store_index(exits) + 1)
        words += exits
    if once:
        words += release(saves.spare)
    words += saves.leave
    tail = len(words)
    words += _tail(site, place.body + 4 * tail)
    ordered = [*saves.registers, *(name for name in sorted(saved) if name not in saves.registers)]
    return _Body(words, tuple(ordered), tail, guard)


def _tail(site: Site, at: int) -> list[int]:
    """Return what follows the payload: the moved instruction, or the older patch of the site.

    One that returns by LR is called, and comes back to the second word; `_returned_by` says where it can.
    """
    if site.under is None:
        return displace(site, at)
    on, back = jump(at, site.under_at, frozenset()), jump(at + 4, site.address + 4, site.free_after)
    moved = at if site.under_moved is None else site.under_moved
    if on is None or jump(at, moved, frozenset()) is None or (back is None and site.under & 1):
        raise site.refused("reach", f"the older patch of {site.at} is out of reach of a new one")
    return [on[0] | site.under & 1, *(back or [])]


def _returned_by(site: Site, payload: Payload, place: Place) -> tuple[int, int] | None:
    """Return the registers of a patch that counts behind the displaced instruction and returns by LR.

    The splice is a ``bl`` then, ``beqlr`` both test and way back, one word less. None where that cannot be.
    """
    free = site.free_after
    if place.trap is not None:
        return None  # a trap does not link
    if site.under is not None or not payload.counted or payload.calls or payload.clobbers & mask("lr"):
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
    site: Site, payload: Payload, place: Place, entrance: _Entrance, registers: tuple[int, int]
) -> _Body:
    words = list(entrance.undo)
    unlinked = site._replace(free=site.free - {"lr"})
    saves = save(unlinked, payload.clobbers, frame=False)
    words += [*saves.enter, *payload.emit(place.body + 4 * (len(words) + len(saves.enter)), 0), *saves.leave]
    tail = len(words)
    words.append(site.instruction.word)
    words += counting_return(place.counter, registers, place.body + 4 * len(words))
    return _Body(words, saves.registers, tail)


def _entrance(site: Site, place: Place, *, linked: bool) -> _Entrance:
    """Return how the body is entered; ``linked`` leaves the address behind the site in LR."""
    if place.trap is not None:
        if not site.trappable or site.untranslated:
            raise site.refused(
                "exception return",
                f"{site.at} cannot be entered by a trap: SRR0 and SRR1 are still to be read there",
            )
        return _Entrance(place.trap)
    if site.untranslated and place.real is None:
        raise site.refused(
            "untranslated",
            f"{site.at} runs with address translation off: only a springboard in a vector's tail "
            "leads to a patch from there (--via tails; not on every kernel)",
        )
    link = int(linked)
    direct = jump(site.address, place.body, frozenset())
    if direct is not None:
        return _Entrance(direct[0] | link)
    if place.springboard is None:
        raise site.refused("springboard", f"no springboard is left within reach of {site.at}")
    entered_at = place.real if site.untranslated and place.real is not None else place.springboard
    to_springboard = jump(site.address, entered_at, frozenset())
    if to_springboard is None:
        raise site.refused("reach", f"the springboards are out of branch reach of {site.at}")
    free = site.free - {"lr"} if linked else site.free
    board = springboard(place.springboard, place.body, site, free)
    return _Entrance(
        to_springboard[0] | link, place.springboard, tuple(board.words), tuple(board.undo), board.saved
    )
