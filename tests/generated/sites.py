"""Have sites of a program judged as those of a kernel are."""

from __future__ import annotations

from collections.abc import Iterable

from kgdbpatch import catalog
from kgdbpatch.errors import Refused
from kgdbpatch.image import Image
from kgdbpatch.patch.site import Site

__all__ = ["Judged", "judged"]

Judged = tuple[int, Site | None]


def judged(image: Image, addresses: Iterable[int]) -> list[Judged]:
    """Return (address, site) for each address, None where a rule refuses it."""
    survey, found = catalog.survey(image), list[Judged]()
    for address in addresses:
        try:
            found.append((address, survey.site(address)))
        except Refused:
            found.append((address, None))
    return found
