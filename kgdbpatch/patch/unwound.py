"""Say of a site in the middle of a function how that is left, and to whom."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kgdbpatch.analysis.unwinding import unwinding
from kgdbpatch.errors import Refused

if TYPE_CHECKING:
    from kgdbpatch.patch.site import Site
    from kgdbpatch.patch.site_checker import SiteChecker

__all__ = ["unwound"]


def unwound(site: Site, checker: SiteChecker) -> Site:
    """Return a site with what is known of its function's caller there; nothing of one that nobody calls."""
    try:
        function = checker.function(site.address)
        called = "lr" in checker.live(function.address).live
    except Refused:
        return site
    if site.entered or not called:
        return site
    return site._replace(unwinding=unwinding(function.address, site.address, checker.code(site.address)))
