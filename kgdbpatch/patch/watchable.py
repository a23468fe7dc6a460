"""Judge many instructions at once: where a trap may stand until it is hit for the first time.

It is less than a patch asks for: nothing is moved, no register is needed. What forbids it is what a trap would
destroy (SRR0 and SRR1, a reservation), and words that are no instruction or that the kernel itself changes.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from kgdbpatch.analysis.reach import Reach
from kgdbpatch.isa.decode import decode_array
from kgdbpatch.patch.site_checker import SiteChecker

__all__ = ["RULES", "judged"]

RULES = ("", "data", "untranslated", "exception code", "rewritten", "reservation", "exception return")
_DATA, _UNTRANSLATED, _EXCEPTION, _REWRITTEN, _RESERVATION, _RETURN = range(1, len(RULES))
_NO_CODE = (Reach.TABLE, Reach.NEVER, Reach.DOUBTFUL)


def judged(checker: SiteChecker, starts: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint8]:
    """Return of each address, ascending, the number in `RULES` of what forbids a trap there; 0: nothing."""
    found = np.zeros(len(starts), np.uint8)
    image, limits, index = checker._image, checker._off_limits, checker._index
    reach = index.arrays["reach"][np.searchsorted(index.arrays["start"], starts, "right") - 1]
    found[np.isin(reach, _NO_CODE)] = _DATA
    with checker.in_bulk():
        for function in image.functions:
            first, last = np.searchsorted(starts, (function.address, function.end)).tolist()
            if first == last:
                continue
            hazards = checker._hazards(function)
            here, some = starts[first:last], found[first:last]
            if hazards.entered:
                some[:] = _RETURN
            for places, rule in (
                (hazards.returning, _RETURN),
                (hazards.window, _RESERVATION),
                (hazards.off, _UNTRANSLATED),
            ):
                if places:
                    some[np.isin(here, list(places))] = rule
    rewritten = np.fromiter(limits.rewritten, np.int64, len(limits.rewritten))
    found[np.isin(starts, rewritten)] = _REWRITTEN
    for section in image.code_sections():
        first, last = np.searchsorted(starts, (section.address, section.end)).tolist()
        if first == last:
            continue
        chosen = (starts[first:last].astype(np.int64) - section.address) // 4
        words, running = image.words(section), checker._words(section.address, section.size // 4)
        known = decode_array(running[chosen], image.model).known
        some = found[first:last]
        some[words[chosen] != running[chosen]] = _REWRITTEN
        some[~known] = _DATA
        if section.name in limits.untranslated_sections:
            some[some == 0] = _EXCEPTION
    untranslated = checker._untranslated
    found[np.isin(starts, np.fromiter(untranslated, np.int64, len(untranslated)))] = _UNTRANSLATED
    return found
