"""Tell the survey what a guest's profile knows of its kernel's code."""

from __future__ import annotations

from collections.abc import Iterable

from kgdbpatch.cpu.ppc6xx.vectors import vectors
from kgdbpatch.image import Image
from kgdbpatch.patch.rewritten import CHANGED, Rewritten
from kgdbpatch.patch.survey import Rules
from kgdbpatch.personality.base import Personality

__all__ = ["survey_rules"]


def survey_rules(personality: Personality, image: Image, changed: Iterable[int] = ()) -> Rules:
    """Return the rules of one kernel: where it may not be patched, its hidden edges and reads.

    ``changed`` are words in which the running kernel was found to differ from its file.
    """
    return Rules(
        untranslated_sections=personality.untranslated_sections,
        vectors=vectors(personality, image),
        discarded=tuple((window.start, window.end) for window in personality.discarded(image)),
        fault_sites=personality.fault_sites(image),
        hidden=personality.hidden_edges(image),
        reads=personality.hidden_reads(image),
        rewritten={**{address: Rewritten(CHANGED) for address in changed}, **personality.rewritten(image)},
    )
