"""Say of sites whether code may be put there: one, or what share of many; nothing in a guest is changed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from kgdbpatch.errors import Refused
from kgdbpatch.image import Function, Image
from kgdbpatch.kernel.planner import Planner
from kgdbpatch.patch.plan import Payload
from kgdbpatch.patch.request import PatchRequest
from kgdbpatch.results import Check

__all__ = ["Checker", "Share", "Summary"]

_TELL = 10.0  # seconds between two words of progress


@dataclass(slots=True)
class Share:
    """The sites ``refused`` by one rule, of some, and an ``example`` with its ``address``."""

    refused: int
    share: float
    example: str
    address: int
    symbol: str


@dataclass(slots=True)
class Summary:
    """How many ``sites`` a place has, how many are ``refused`` (as a ``share`` too), by which ``rules``."""

    sites: int = 0
    refused: int = 0
    share: float = 0.0
    rules: dict[str, Share] = field(default_factory=dict)

    def count(self, sites: int, refusals: Iterable[tuple[str, Refused]]) -> None:
        """Add ``sites``, of which some are refused, given with their symbols."""
        self.sites += sites
        for symbol, refused in refusals:
            self.refused += 1
            new = Share(0, 0.0, str(refused), refused.address or 0, symbol)
            self.rules.setdefault(refused.rule, new).refused += 1
        self._shares()

    def merge(self, other: Summary) -> None:
        """Add what was found of another place."""
        self.sites += other.sites
        self.refused += other.refused
        for name, more in other.rules.items():
            self.rules.setdefault(name, replace(more, refused=0)).refused += more.refused
        self._shares()

    def _shares(self) -> None:
        self.share = self.refused / self.sites if self.sites else 0.0
        for rule in self.rules.values():
            rule.share = rule.refused / self.sites


class Checker:
    """Judge sites as `Kernel.patch` would: by a payload that calls, or with ``count`` by a counter."""

    def __init__(self, image: Image, planner: Planner, *, count: bool = False) -> None:
        self._image, self._planner = image, planner
        self._payload: Payload = planner.payload(PatchRequest(count=True)) if count else planner.any_call()

    def __repr__(self) -> str:
        return f"Checker({self._image!r})"

    def check(self, address: int) -> Check:
        """Say whether, where (see `Planner.plan_site`) and at what cost the payload could be put."""
        try:
            plan = self._planner.plan_site(address, self._payload)[1]
        except Refused as no:
            symbol = self._image.symbolize(address)
            nearest = None if no.nearest is None else self._image.symbolize(no.nearest)
            return Check(address, symbol, False, no.rule, str(no), no.nearest, nearest, False, None, (), 0)
        board, address = plan.springboard_used, plan.site
        symbol = self._image.symbolize(address)
        return Check(
            address, symbol, True, None, None, None, None, board, plan.entry, plan.saved, plan.body_words
        )

    def summary(
        self, functions: Iterable[Function], progress: Callable[[str], None] = lambda _: None
    ) -> dict[str, Summary]:
        """Judge every instruction of functions, less those given up after boot; by section."""
        found: dict[str, Summary] = {}
        wanted, said = list(functions), time.monotonic()
        seen = set[int]()
        for number, function in enumerate(wanted, start=1):
            if time.monotonic() > said + _TELL:
                said = time.monotonic()
                progress(f"judged {number:,} of {len(wanted):,} functions")
            places = [at for at in range(function.address, function.end, 4) if at not in seen]
            seen.update(places)
            refusals = self._planner.refusals(places, self._payload)
            if not any(refused.rule == "discarded" for refused in refusals):
                named = [(self._image.symbolize(refused.address or 0), refused) for refused in refusals]
                found.setdefault(function.section, Summary()).count(len(places), named)
        return found
