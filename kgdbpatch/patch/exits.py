"""Plan that code runs where a function returns: whatever way it does, with the arguments of its entry kept.

The splice leads to a body that makes a frame between the function and its caller and calls the function; what
it must look like for that, `for_exits` says. Entry and exit are paired by the frame: recursion, threads and
interrupts have each their own. The frame's last word is a mark, the address of the body: whoever walks the
stacks counts those that are inside (kernel/inside.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from kgdbpatch.analysis.caller_frame import ARGUMENTS, CallerFrame
from kgdbpatch.errors import BadPatch
from kgdbpatch.isa import encode
from kgdbpatch.isa.abi import SYSV
from kgdbpatch.isa.registers import CRS, mask
from kgdbpatch.patch.count import counting
from kgdbpatch.patch.displace import onward
from kgdbpatch.patch.entrance import entrance
from kgdbpatch.patch.layout import Layout, planned
from kgdbpatch.patch.once import claim, release
from kgdbpatch.patch.payload import Payload, call_words
from kgdbpatch.patch.planned import Place, Plan
from kgdbpatch.patch.registers import writes_of
from kgdbpatch.patch.site import Site

__all__ = ["MARK", "MOST_ARGUMENTS", "caller_asked", "exit_writes", "for_exits", "plan_exits"]

MARK = -4  # bytes from the end of the body's frame
MOST_ARGUMENTS = 64  # bytes of arguments in the caller's frame that are copied

_FIELDS = (*(f"r{number}" for number in range(3, 11)), "result", "result_low", "caller", "function", "sp")
_WORDS = len(_FIELDS) + 8  # of struct kgp_exit: `kept` is behind
_KEPT = ("r0", "r11", "r12", "cr", "slot")  # where nothing but counting is done
_KEPT_FOR_C = (*_KEPT, *(f"r{number}" for number in range(3, 11)), "ctr", "xer", "spare")
_RESULTS = {"r3": "result", "r4": "result_low"}
_FEW = ("r11", "r12")  # what counting changes, CR0 besides
_PARTS = {"ctr": mask("ctr"), "xer": mask("ca", "ov", "so", "string")}
_SPECIAL = (("ctr", encode.mfctr, encode.mtctr), ("xer", encode.mfxer, encode.mtxer))


def exit_writes(given: str, about: str) -> frozenset[str]:
    """Return the results that a list of registers names: r3, r4; raise `BadPatch` for others."""
    named = writes_of(given, about)
    if not named <= _RESULTS.keys():
        raise BadPatch(f"{about}: at a function's exits its result can be written: r3, r4")
    return named


def for_exits(site: Site, frame: CallerFrame, symbolize: Callable[[int], str]) -> Site:
    """Return ``site`` with the bytes of arguments that its function finds in its caller's frame.

    ``frame`` is what the function does there. Raises `Refused` (``entry``, ``no return``, ``stack``,
    ``frame``) where no frame may come between.
    """
    if not site.entered:
        raise site.refused("entry", f"{site.at} is no function's entry: its exits cannot be told from there")
    if site.loops:
        raise site.refused(
            "entry", f"a loop of the function comes back to its entry {site.at}: it would be entered again"
        )
    if not frame.returns:
        raise site.refused("no return", f"the function at {site.at} never returns: it has no exit")
    if not site.stack:
        raise site.refused(
            "stack", f"r1 is not the kernel's stack at {site.at}: there is no place for a frame"
        )
    why = None if frame.objection is None else f"{symbolize(frame.objection[0])} {frame.objection[1]}"
    if why is None and frame.unknown:
        why = f"{symbolize(frame.unknown[0])} goes on to code unknown, which may look for arguments there"
    if why is None and frame.reads > MOST_ARGUMENTS:
        why = f"it may read {frame.reads} bytes of arguments there; {MOST_ARGUMENTS} are copied at most"
    if why is not None:
        raise site.refused(
            "frame", f"no frame may lie between the function at {site.at} and its caller: {why}"
        )
    return site._replace(arguments=frame.reads)


def caller_asked(frame: CallerFrame, symbolize: Callable[[int], str]) -> tuple[str, ...]:
    """Return what is to be said of a function that asks by what address it was called."""
    if frame.asks is None:
        return ()
    return (f"{symbolize(frame.asks)} tells another function where this one was called from: in the patch",)


class _Frame(NamedTuple):
    """Where things stand in the body's frame, bytes from r1, and its size; ``shown``: for a payload."""

    shown: int
    kept: int
    size: int

    @classmethod
    def of(cls, site: Site, *, shows: bool) -> _Frame:
        shown = -(-max(site.abi.linkage, ARGUMENTS + site.arguments) // 8) * 8
        kept = shown + 4 * _WORDS * shows
        words = len(_KEPT_FOR_C if shows else _KEPT)
        return cls(shown, kept, -(-(kept + 4 * words - MARK) // 16) * 16)

    def field(self, name: str) -> int:
        return self.shown + 4 * _FIELDS.index(name)

    def slot(self, name: str) -> int:
        return self.kept + 4 * _KEPT_FOR_C.index(name)


def _keep(frame: _Frame, names: tuple[str, ...]) -> list[int]:
    return [encode.stw(int(name[1:]), frame.slot(name), 1) for name in names]


def _reload(frame: _Frame, names: tuple[str, ...]) -> list[int]:
    return [encode.lwz(int(name[1:]), frame.slot(name), 1) for name in names]


def _enter(
    site: Site, place: Place, frame: _Frame, begin: Callable[[int], list[int]], *, shows: bool
) -> list[int]:
    """Return words that make the frame and count an entry; what is live at the entry is left as it is.

    ``begin(before)`` are those that let the payload begin, behind so many of these; r0, r11, r12 are free.
    """
    live = tuple(name for name in ("r0", *_FEW) if name not in site.free)
    lr_slot = frame.size + SYSV.lr_offset
    words = [encode.stwu(1, -frame.size, 1), *_keep(frame, live)]
    # System V's word for LR is one that callees may change by Darwin's convention, too; a caller in assembler
    # may rely on it nevertheless: it is put back
    words += [encode.lwz(0, lr_slot, 1), encode.stw(0, frame.slot("slot"), 1)]
    words += [encode.mflr(0), encode.stw(0, lr_slot, 1)]
    if shows:
        words.append(encode.stw(0, frame.field("caller"), 1))
        words += [encode.stw(number, frame.field(f"r{number}"), 1) for number in range(3, 11)]
        words += [*encode.load_address(0, site.address), encode.stw(0, frame.field("function"), 1)]
        words += [encode.addi(0, 1, frame.size), encode.stw(0, frame.field("sp"), 1)]
    for offset in range(0, site.arguments, 4):
        words += [encode.lwz(0, frame.size + ARGUMENTS + offset, 1)]
        words += [encode.stw(0, ARGUMENTS + offset, 1)]
    words += [*encode.load_address(0, place.body), encode.stw(0, frame.size + MARK, 1)]
    if "cr0" not in site.free:
        words += [encode.mfcr(0), encode.stw(0, frame.slot("cr"), 1)]
    words += counting(place.counter)
    if "cr0" not in site.free:
        words += [encode.lwz(0, frame.slot("cr"), 1), encode.mtcrf(0x80, 0)]
    words += begin(len(words))
    return words + _reload(frame, live)


def _begin(payload: Payload, frame: _Frame, at: int, to: int) -> list[int]:
    """Return words at ``at`` that call the payload at the entry; r0, r11 and r12 are free, others kept."""
    changes = payload.clobbers | mask("r3")
    cr = changes & CRS > 0
    special = [one for one in _SPECIAL if changes & _PARTS[one[0]]]
    words = [encode.mfcr(0), encode.stw(0, frame.slot("cr"), 1)] * cr
    for name, read, _ in special:
        words += [read(0), encode.stw(0, frame.slot(name), 1)]
    words.append(encode.addi(3, 1, frame.shown))
    words += call_words(at + 4 * len(words), to)
    for name, _, write in special:
        words += [encode.lwz(0, frame.slot(name), 1), write(0)]
    words += [encode.lwz(0, frame.slot("cr"), 1), encode.mtcrf(0xFF, 0)] * cr
    shown = (number for number in range(3, 11) if changes & mask(f"r{number}"))
    return [*words, *(encode.lwz(number, frame.field(f"r{number}"), 1) for number in shown)]


def _leave(
    site: Site,
    place: Place,
    frame: _Frame,
    inner: Callable[[int, int], list[int]] | None,
    writes: frozenset[str],
) -> list[int]:
    """Return words that follow the function's return: all is as it left it when they are over.

    ``inner(before, spare)`` are the payload's words behind so many of these, ``spare`` a word of the frame.
    """
    lr_slot = frame.size + SYSV.lr_offset
    shown = tuple(f"r{number}" for number in range(3, 13)) if inner else _FEW
    special = _SPECIAL if inner else ()
    words = _keep(frame, ("r0", *shown))
    words += [encode.mfcr(0), encode.stw(0, frame.slot("cr"), 1)]
    for name, read, _ in special:
        words += [read(0), encode.stw(0, frame.slot(name), 1)]
    if inner is not None:
        words += [encode.stw(3, frame.field("result"), 1), encode.stw(4, frame.field("result_low"), 1)]
        words += inner(len(words), frame.slot("spare"))
    words += counting(place.counter + 4)
    words += [encode.addi(0, 0, 0), encode.stw(0, frame.size + MARK, 1)]
    # the body's addresses, where the function returned to and where a springboard leads, would keep it from
    # being given back if they stayed on a stack
    words += [encode.stw(0, offset, 1) for offset in sorted({SYSV.lr_offset, site.abi.lr_offset})]
    for name, _, write in special:
        words += [encode.lwz(0, frame.slot(name), 1), write(0)]
    words += [encode.lwz(0, frame.slot("cr"), 1), encode.mtcrf(0xFF, 0)]
    words += [encode.lwz(11, lr_slot, 1), encode.mtlr(11)]
    words += [encode.lwz(11, frame.slot("slot"), 1), encode.stw(11, lr_slot, 1)]
    words += _reload(frame, ("r0", *(name for name in shown if name not in {*writes, "r11"})))
    words += [encode.lwz(int(name[1:]), frame.field(_RESULTS[name]), 1) for name in sorted(writes)]
    words.append(encode.addi(11, 0, 0))
    words += [encode.stw(11, frame.slot(name), 1) for name in ("r0", "r12", *(("ctr",) if inner else ()))]
    words += _reload(frame, ("r11",))
    return [*words, encode.addi(1, 1, frame.size), encode.blr()]


def plan_exits(site: Site, payload: Payload, place: Place, forced: Sequence[str]) -> Plan:
    """Plan that ``payload`` runs at the exits of the function that ``site`` enters (see `for_exits`).

    It goes against the rules ``forced``. Raises `Refused` where no way leads to the body, or onward.
    """
    writes = payload.exits
    assert writes is not None
    way = entrance(site, place, linked=False)
    shows = payload.blob is not None
    frame = _Frame.of(site, shows=shows)
    once = site.once if payload.calls else 0

    def build(blob: int, area: int) -> tuple[list[int], int]:
        def begin(before: int) -> list[int]:
            if payload.begins is None:
                return []
            at = place.body + 4 * (len(way.undo) + before)
            return _begin(payload, frame, at, payload.begins(blob))

        words = [*way.undo, *_enter(site, place, frame, begin, shows=shows)]
        called = len(words)

        def inner(before: int, spare: int) -> list[int]:
            first = claim(area, once, spare, 0) if once else []
            at = place.body + 4 * (called + 1 + before + len(first) + 1)
            run = [encode.addi(3, 1, frame.shown), *payload.emit(at, blob)]
            last = release(spare) if once else []
            if once:
                first = claim(area, once, spare, len(first) + len(run) + len(last))
            return [*first, *run, *last]

        leave = _leave(site, place, frame, inner if shows else None, writes)
        original = called + 1 + len(leave)
        words += [encode.bl(4 * called, 4 * original), *leave, *site.prefix]
        return [*words, *onward(site, place.body + 4 * len(words))], original + len(site.prefix)

    layout = Layout.of(place.body, len(build(place.body, place.body)[0]), payload, guarded=bool(once))
    words, tail = build(layout.blob_at, layout.area)
    return planned(
        site,
        payload,
        way,
        layout,
        layout.code(words),
        words=len(words),
        tail=tail,
        forced=forced,
        counted=True,
        replaces=True,
    )
