"""How often the blocks of a function ran, and which of its edges that tells."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from kgdbpatch.analysis.cfg import Block, Edge

__all__ = ["BlockCounts", "edge_counts"]


@dataclass(frozen=True, slots=True)
class BlockCounts:
    """How often each block of a function ran in so many ``seconds``, by where it starts.

    ``not_counted`` tells of the others the rule that forbids a counter there: nothing is known of them.
    ``patches`` are those that were in the function before: their ids, by site.
    """

    seconds: float
    hits: Mapping[int, int]
    not_counted: Mapping[int, str]
    patches: Mapping[int, tuple[int, ...]]

    @property
    def most(self) -> int:
        """How often the block ran that did so most."""
        return max(self.hits.values(), default=0)

    def rules(self) -> dict[str, int]:
        """Return by each rule how many blocks could not be counted for it."""
        found: dict[str, int] = {}
        for rule in self.not_counted.values():
            found[rule] = found.get(rule, 0) + 1
        return found

    def text(self, start: int) -> str:
        """Return of a block for people how often it ran, or why that is not known."""
        hits = self.hits.get(start)
        if hits is None:
            return f"not counted: {self.not_counted.get(start, 'no counter')}"
        return "1 hit" if hits == 1 else f"{hits:,} hits"


def edge_counts(
    blocks: Mapping[int, Block], hits: Mapping[int, int], entered: Collection[int]
) -> dict[Edge, int]:
    """Return how often control went along edges, of those alone of which blocks tell it.

    The block at the end does where nothing else leads to it; ``entered`` are those that control comes to
    otherwise. Else that at the beginning does where nothing else leads out of it; what is still within it
    then, in a call that it makes, is taken as having left.
    """
    found = {}
    for edge in _edges(blocks):
        source, target = blocks[edge.source], blocks[edge.target]
        into = {one.source for one in target.predecessors}
        out = {one.target for one in source.successors}
        alone = target.start not in entered and len(into) == len(target.predecessors) == 1
        if alone and edge.target in hits:
            found[edge] = hits[edge.target]
        elif len(out) == len(source.successors) == 1 and not source.exits and edge.source in hits:
            found[edge] = hits[edge.source]
    return found


def _edges(blocks: Mapping[int, Block]) -> Iterable[Edge]:
    for block in blocks.values():
        yield from block.successors
