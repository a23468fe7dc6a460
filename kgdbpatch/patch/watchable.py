"""Judge many instructions at once: where a trap may stand until it is hit for the first time.

It is less than a patch asks for: nothing is moved, no register is needed. What forbids it is what a trap
would destroy (SRR0 and SRR1, a reservation), and words that are no code or that the kernel itself changes.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from kgdbpatch.analysis.cfg import FlowGraph
from kgdbpatch.analysis.hazard_filter import Hazard
from kgdbpatch.analysis.hazards import reservation_window, translation
from kgdbpatch.analysis.reach import Reach
from kgdbpatch.analysis.stack import exception_return, reads_exception
from kgdbpatch.image import Function
from kgdbpatch.isa import encode
from kgdbpatch.isa.decode import Kind, decode_array
from kgdbpatch.patch.rewritten import FTRACE
from kgdbpatch.patch.site_checker import SiteChecker

__all__ = ["RULES", "judged", "places"]

RULES = ("", "data", "untranslated", "exception code", "rewritten", "reservation", "exception return", "trap")
_DATA, _UNTRANSLATED, _EXCEPTION, _REWRITTEN, _RESERVATION, _RETURN, _TRAP = range(1, len(RULES))
_NO_CODE = (Reach.TABLE, Reach.NEVER, Reach.DOUBTFUL)
_ANY_TARGET = 0xFC1F_FFFF  # of an instruction but for the register that it writes
_PREFIX = 8  # words at a function's start by which it is traced, at most
_NEAR = 0x1000  # bytes from a function in which a routine that it is a part of changes what matters

Addresses = npt.NDArray[np.uint32]


def places(checker: SiteChecker) -> tuple[Addresses, Addresses, Addresses]:
    """Return where blocks begin, their last instructions, and where a trap of each may stand.

    That is behind the words by which the kernel traces a function, which go on from one to the next. Blocks
    of nothing but such words count as part of the one before.
    """
    arrays, limits = checker._index.arrays, checker._off_limits
    start, end = arrays["start"], arrays["end"]
    traced = np.array(sorted(at for at, what in limits.rewritten.items() if what.kind == FTRACE), np.uint32)
    part = np.isin(start, traced) & (start == end)
    part[:1] = False
    part[1:] &= (end[:-1] + 4 == start[1:]) & ~part[:-1]
    end = np.where(np.append(part[1:], False), np.append(end[1:], 0), end).astype(np.uint32)
    start, end = start[~part], end[~part]
    site = start.copy()
    for _ in range(_PREFIX):
        more = np.isin(site, traced) & (site < end)
        if not more.any():
            break
        site[more] += 4
    return start, end, site


def judged(checker: SiteChecker, sites: Addresses, spr: int | None) -> npt.NDArray[np.uint8]:
    """Return of each address, ascending, the number in `RULES` of what forbids a trap there; 0: nothing.

    ``spr`` is the register that the program exception's vector overwrites besides SRR0 and SRR1. Functions
    that read it do so for what an exception has put there: no trap may come before, so none is put there.
    """
    found = np.zeros(len(sites), np.uint8)
    image, limits, index = checker._image, checker._off_limits, checker._index
    reach = index.arrays["reach"][np.searchsorted(index.arrays["start"], sites, "right") - 1]
    found[np.isin(reach, _NO_CODE)] = _DATA
    functions = [*image.functions]
    spans = np.array([(one.address, one.end) for one in functions], np.uint32).reshape(-1, 2)
    firsts, lasts = (np.searchsorted(sites, spans[:, side]).tolist() for side in (0, 1))
    with checker.in_bulk():
        for function, first, last in zip(functions, firsts, lasts, strict=True):
            if first != last:
                _mark_hazards(checker, function, sites[first:last], found[first:last])
    rewritten = np.fromiter(limits.rewritten, np.uint32, len(limits.rewritten))
    found[np.isin(sites, rewritten)] = _REWRITTEN
    for section in image.code_sections():
        first, last = np.searchsorted(sites, (section.address, section.end)).tolist()
        if first == last:
            continue
        chosen = (sites[first:last].astype(np.int64) - section.address) // 4
        words, running = image.words(section), checker._words(section.address, section.size // 4)
        some = found[first:last]
        if spr is not None:
            reads = section.address + 4 * np.flatnonzero(
                running & np.uint32(_ANY_TARGET) == encode.mfspr(0, spr)
            )
            owner = np.searchsorted(spans[:, 0], reads, "right") - 1
            for number in {*owner[owner >= 0].tolist()}:
                found[firsts[number] : lasts[number]] = _RETURN
        some[words[chosen] != running[chosen]] = _REWRITTEN
        decoded = decode_array(running[chosen], image.model)
        some[decoded.kind == Kind.TRAP] = _TRAP  # the kernel's own: which of the two was hit must be clear
        some[~decoded.known] = _DATA
        if section.name in limits.untranslated_sections:
            some[some == 0] = _EXCEPTION
    untranslated = checker._untranslated
    found[np.isin(sites, np.fromiter(untranslated, np.uint32, len(untranslated)))] = _UNTRANSLATED
    return found


def _mark_hazards(
    checker: SiteChecker, function: Function, sites: Addresses, rules: npt.NDArray[np.uint8]
) -> None:
    """Note in ``rules`` which of a function's sites a trap would harm; as `SiteChecker` finds it."""
    hazardous = checker._hazardous
    assert hazardous is not None  # in bulk
    at, end = function.address, function.end
    if hazardous.within(at - _NEAR, end + _NEAR):
        at, end = checker._routine(function)
    found = hazardous.within(at, end)
    if not found & (Hazard.SWITCHES | Hazard.RETURNS | Hazard.RESERVES | Hazard.EXCEPTION):
        return
    words = checker._words(at, (end - at) // 4)
    marks = list[tuple[set[int], int]]()
    if found & (Hazard.RETURNS | Hazard.EXCEPTION):
        graph = FlowGraph(words, at, checker._off_limits.implicit.all, model=checker._image.model)
        if reads_exception(graph):
            rules[:] = _RETURN
        marks.append((exception_return(graph) if found & Hazard.RETURNS else set(), _RETURN))
    if found & Hazard.RESERVES:
        marks.append((reservation_window(words, at), _RESERVATION))
    if found & (Hazard.SWITCHES | Hazard.RETURNS):
        marks.append((translation(words, at, checker._off_limits.space)[0], _UNTRANSLATED))
    for where, rule in marks:
        if where:
            rules[np.isin(sites, np.fromiter(where, np.uint32, len(where)))] = rule
