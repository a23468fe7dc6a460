"""Count how often each block of a function of a running kernel is executed."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from kgdbpatch.errors import Misuse
from kgdbpatch.kernel.analyses import flow
from kgdbpatch.kernel.probing import Probing
from kgdbpatch.patch.request import PatchRequest
from kgdbpatch.profiles.block_counts import BlockCounts
from kgdbpatch.results import PatchState

if TYPE_CHECKING:
    from kgdbpatch.kernel.kernel import Kernel

__all__ = ["BlockCounter"]


class BlockCounter(Probing):
    """Counts, while it is entered, how often each block of the function that a place is in is executed.

    >>> with BlockCounter(kernel, "udp_sendmsg") as counter:
    ...     counter.wait(1)
    ...     print(counter.counts().most)
    4612
    """

    def __init__(self, kernel: Kernel, place: str) -> None:
        super().__init__(kernel)
        function = kernel.image.function_at(kernel.resolve(place))
        if function is None:
            raise Misuse(f"'{place}' is in no function of {kernel.image.path.name}")
        self.function = function
        self.flow = flow(kernel.image, function)
        self._patches: dict[int, tuple[int, ...]] = {}
        self._began = 0.0

    def _put_in(self, progress: Callable[[str], None]) -> None:
        graph = self.flow.graph
        self._patches = self._standing()
        self._add([at for at in graph.blocks if not graph.is_data(at)], PatchRequest(count=True), progress)
        self._began = time.monotonic()

    def _standing(self) -> dict[int, tuple[int, ...]]:
        """Return the ids of the patches in the function, by their sites."""
        found: dict[int, tuple[int, ...]] = {}
        for one in self._kernel.records():
            if one.site in self.flow.graph and one.state is not PatchState.RETIRED:
                found[one.site] = (*found.get(one.site, ()), one.id)
        return found

    def counts(self) -> BlockCounts:
        """Return what was counted so far; the guest is stopped for a moment, so that all are of the same."""
        kernel, graph = self._kernel, self.flow.graph
        header = kernel._header()
        with kernel._exclusive(), kernel._component.view(header):
            raw = kernel._component.arena(header.arena).table().raw
            passed = time.monotonic() - self._began
        rows = raw[["id", "site", "hits"]].tolist()
        hits = {site: count for number, site, count in rows if self._sites.get(number) == site}
        rules = {one.address: one.rule for one in self.refused if one.address is not None}
        left = {
            at: "data" if graph.is_data(at) else rules.get(at, "no counter")
            for at in graph.blocks
            if at not in hits
        }
        return BlockCounts(passed, {at: hits[at] for at in graph.blocks if at in hits}, left, self._patches)
