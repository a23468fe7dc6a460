"""Tell the survey what a guest's profile knows of its kernel's code."""

from __future__ import annotations

from collections.abc import Iterable

from kgdbpatch.cpu.ppc6xx.vectors import vectors
from kgdbpatch.guests.profile import Profile
from kgdbpatch.image import Image
from kgdbpatch.patch.rewritten import CHANGED, Rewritten
from kgdbpatch.patch.survey import Rules

__all__ = ["survey_rules"]


def survey_rules(profile: Profile, image: Image, changed: Iterable[int] = ()) -> Rules:
    """Return the rules of one kernel: where it may not be patched, its hidden edges and reads.

    ``changed`` are words in which the running kernel was found to differ from its file.
    """
    return Rules(
        untranslated_sections=profile.untranslated_sections,
        vectors=vectors(profile, image),
        discarded=tuple((window.start, window.end) for window in profile.discarded(image)),
        fault_sites=profile.fault_sites(image),
        hidden=profile.hidden_edges(image),
        reads=profile.hidden_reads(image),
        rewritten={**{address: Rewritten(CHANGED) for address in changed}, **profile.rewritten(image)},
    )
