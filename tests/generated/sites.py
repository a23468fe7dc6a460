"""Have sites of a program judged as those of a kernel are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from kgdbpatch.errors import Refused
from kgdbpatch.image import Image
from kgdbpatch.kernel import offline
from kgdbpatch.patch.site import Site

__all__ = ["judged"]


def judged(image: Image, addresses: Iterable[int]) -> tuple[tuple[Site, ...], Counter[str]]:
    """Return the sites at those addresses that no rule refuses, and how often each rule refuses one."""
    site_checker, found, refused = offline.site_checker(image), list[Site](), Counter[str]()
    for address in addresses:
        try:
            found.append(site_checker.site(address))
        except Refused as error:
            refused[error.rule] += 1
    return tuple(found), refused
