"""Tell the site checker what a guest's personality knows of its kernel's code."""

from __future__ import annotations

from collections.abc import Iterable

from kgdbpatch import cpu
from kgdbpatch.analysis.program import ImplicitEdges
from kgdbpatch.component.ports import Cpu
from kgdbpatch.image import Image
from kgdbpatch.kernel import remembered
from kgdbpatch.patch.rewritten import CHANGED, Rewritten
from kgdbpatch.patch.site_checker import OffLimits
from kgdbpatch.personality.base import Personality

__all__ = ["off_limits"]


def off_limits(
    personality: Personality, image: Image, changed: Iterable[int] = (), on: Cpu | None = None
) -> OffLimits:
    """Return the rules of one kernel: where it may not be patched, what its words do unseen.

    ``changed`` are words in which the running kernel was found to differ from its file, ``on`` is the CPU
    that it runs on (default: one that its file is for).
    """
    on = on or cpu.of_model(image.model)
    exceptional, edges, reads, rewritten, faults = remembered.facts(personality, image)
    return OffLimits(
        untranslated_sections=personality.untranslated_sections,
        vectors=on.vectors(personality, image),
        discarded=tuple((window.start, window.end) for window in personality.discarded(image)),
        fault_sites=faults,
        implicit=ImplicitEdges(exceptional, edges),
        reads=reads,
        rewritten={**{address: Rewritten(CHANGED) for address in changed}, **rewritten},
    )
